"""Look now and then whether the topics are still there; make those again that somebody deleted."""

from typing import Final

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from k2_core.logs import logger
from k2_core.settings import Settings
from k2_feeds.kafka.provision import ensure_topic

LOOK_S: Final = 3.0
_LOOKS_BEFORE_MAKING: Final = 4  # whoever deleted it may be about to make it again
_TIMEOUT_S: Final = 3.0  # the end of the process waits for it
_MISSING: Final = {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.UNKNOWN_TOPIC_ID}
_log = logger(__name__)


class KeptTopics:
    """The topics of one feed. ``missing`` says which of them Kafka does not have; empty while all are there."""

    def __init__(self, settings: Settings, names: tuple[str, ...]) -> None:
        self.missing = ""
        self._settings = settings
        self._names = names
        self._admin = AdminClient({"bootstrap.servers": settings.bootstrap_servers, "log_level": 0})
        self._ids: dict[str, str] = {}
        self._looks_missing = 0

    def look(self) -> None:
        """Ask Kafka once, and mend what is found; blocks for some seconds when Kafka is away.

        Raises:
            TopicError: a topic was made again with other partitions, or Kafka refuses to make it.
        """
        try:
            found = self._describe()
        except KafkaException:  # Kafka is away: the producer says so
            return
        gone = [name for name in self._names if name not in found]
        for name in found.keys() & self._ids.keys():
            if found[name] != self._ids[name]:
                self._made_again(name)
        self._ids |= found
        self._looks_missing = self._looks_missing + 1 if gone else 0
        if self._looks_missing >= _LOOKS_BEFORE_MAKING:
            for name in gone:
                self._made_again(name)
                self._ids.pop(name, None)
        self.missing = f"{', '.join(gone)} is not in Kafka: the feed makes it again within seconds" if gone else ""

    def _made_again(self, name: str) -> None:
        ensure_topic(self._admin, name, self._settings)
        _log.warning("a topic had been deleted and stands again", topic=name)

    def _describe(self) -> dict[str, str]:
        answers = self._admin.describe_topics(TopicCollection(list(self._names)), request_timeout=_TIMEOUT_S)
        found = {}
        for name, answer in answers.items():
            try:
                found[name] = str(answer.result().topic_id)
            except KafkaException as error:
                if error.args[0].code() not in _MISSING:
                    raise
        return found
