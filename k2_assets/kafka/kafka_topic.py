"""What a topic is: its name, its UUID, its partitions, and whether Kafka still has the same one."""

from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient, TopicDescription

from k2_core import clock
from k2_core.errors import TopicError
from k2_core.logs import logger

log = logger(__name__)

ADMIN_TIMEOUT_S: Final = 10
_WATCH_S: Final = 3.0
_WATCH_TIMEOUT_S: Final = 4
_MISSING: Final = {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.UNKNOWN_TOPIC_ID}

Described = Future[TopicDescription]


class NoTopic(TopicError):
    """Kafka has no topic of that name, or another one than before."""


@dataclass(frozen=True)
class Topic:
    """A topic as it exists now."""

    name: str
    topic_id: str
    partitions: tuple[int, ...]


def admin_client(bootstrap_servers: str) -> AdminClient:
    return AdminClient({"bootstrap.servers": bootstrap_servers, "socket.timeout.ms": 10_000, "log_level": 3})


def describe_topic(bootstrap_servers: str, name: str, admin: AdminClient | None = None) -> Topic:
    """Ask Kafka for a topic's UUID and partitions.

    Raises:
        NoTopic: Kafka has no such topic.
        TopicError: Kafka does not answer.
    """
    client = admin or admin_client(bootstrap_servers)  # held by a name: without one it is gone before the answer comes
    return _read(_ask(client, name), bootstrap_servers, name)


class TopicWatch:
    """Watches whether a topic is still the same one: Kafka never uses a UUID again. Used by one thread.

    ``away`` is the reason why Kafka does not answer; empty while it does.
    """

    def __init__(self, admin: AdminClient, bootstrap_servers: str, topic: Topic) -> None:
        self.away = ""
        self._admin = admin
        self._bootstrap_servers = bootstrap_servers
        self._topic = topic
        self._asked: Described | None = None
        self._ask_at = 0.0

    def look(self) -> None:
        """Ask every few seconds, without waiting for the answer.

        Raises:
            NoTopic: the topic was deleted or made again.
        """
        if self._asked is None and clock.monotonic() >= self._ask_at:
            self._asked = _ask(self._admin, self._topic.name, _WATCH_TIMEOUT_S)
        if self._asked is None or not self._asked.done():
            return
        answer, self._asked = self._asked, None
        self._ask_at = clock.monotonic() + _WATCH_S
        try:
            require_same(self._topic, _read(answer, self._bootstrap_servers, self._topic.name))
            self.away = ""
        except NoTopic:
            raise
        except TopicError as error:
            if not self.away:
                log.warning("waiting", error=str(error))
            self.away = str(error)


def require_same(opened: Topic, found: Topic) -> None:
    """Make sure that ``found``, described now, is the topic that was opened.

    Raises:
        NoTopic: it is another one of the same name.
    """
    if found.topic_id != opened.topic_id:
        msg = (
            f"topic {found.name} was deleted and made again: the new one is read from its beginning, "
            "and what was not committed of the old one is gone with it"
        )
        raise NoTopic(msg)


def _ask(admin: AdminClient, name: str, timeout_s: int = ADMIN_TIMEOUT_S) -> Described:
    answer: Described = admin.describe_topics(TopicCollection([name]), request_timeout=timeout_s)[name]
    return answer


def _read(answer: Described, bootstrap_servers: str, name: str) -> Topic:
    try:
        described = answer.result()
    except KafkaException as error:
        reason = error.args[0].str()
        if error.args[0].code() in _MISSING:
            msg = f"Kafka at {bootstrap_servers} could not describe topic {name} ({reason}): a feed that runs makes it"
            raise NoTopic(msg) from None
        msg = f"Kafka at {bootstrap_servers} does not answer ({reason}): see that it runs; topic {name} waits there"
        raise TopicError(msg) from None
    return Topic(name, str(described.topic_id), tuple(sorted(p.id for p in described.partitions)))
