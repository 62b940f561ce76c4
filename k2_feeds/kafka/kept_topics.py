"""Check from time to time whether the topics exist; create deleted ones again."""

import asyncio
from typing import Final

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from k2_core.logs import logger
from k2_core.settings import Settings
from k2_feeds.kafka.provision import ensure_topic

LOOK_S: Final = 3.0
_LOOKS_BEFORE_MAKING: Final = 4  # the user who deleted it may be about to create it again
_TIMEOUT_S: Final = 3.0  # the end of the process waits for it
_MISSING: Final = {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.UNKNOWN_TOPIC_ID}
_log = logger(__name__)


class KeptTopics:
    """The topics of one feed. ``missing`` is a sentence about those that Kafka does not have, empty if it has all."""

    def __init__(self, settings: Settings, names: tuple[str, ...]) -> None:
        self.missing = ""
        self._settings = settings
        self._names = names
        self._admin = AdminClient({"bootstrap.servers": settings.bootstrap_servers, "log_level": 0})
        self._ids: dict[str, str] = {}
        self._looks_missing = 0

    async def run(self) -> None:
        """Look until cancelled; raises as :meth:`look` does."""
        while True:
            await asyncio.to_thread(self.look)
            await asyncio.sleep(LOOK_S)

    def look(self) -> None:
        """Ask Kafka once, and create what is missing; blocks for some seconds when Kafka is away.

        Raises:
            TopicError: a topic was created again with other partitions, or Kafka refuses to create it.
        """
        try:
            found = self._describe()
        except KafkaException:  # Kafka is away: the producer reports it
            return
        # A topic with another id was deleted and created by someone else: give it K2's settings.
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
        _log.warning("a topic had been deleted and was created again", topic=name)

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
