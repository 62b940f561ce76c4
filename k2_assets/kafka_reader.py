"""Read Kafka in large batches from offsets that the lake keeps; Kafka's own group offsets are never trusted."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from k2_core.errors import TopicError
from k2_core.logs import logger
from k2_core.offsets import Offsets

log = logger(__name__)

_CONSUME_MESSAGES = 10_000
_ADMIN_TIMEOUT_S = 10
_OLDEST, _FOLLOWING = OffsetSpec.earliest(), OffsetSpec.latest()  # type: ignore[no-untyped-call]


@dataclass
class Messages:
    """Messages as parallel lists, in the order they were read; per partition that is the order of offsets."""

    partitions: list[int] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    timestamps_ms: list[int] = field(default_factory=list)
    keys: list[bytes | None] = field(default_factory=list)
    values: list[bytes] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.values)

    def extend(self, messages: Sequence[Message]) -> None:
        """Append messages; a tombstone's missing value reads as empty bytes."""
        self.partitions.extend([m.partition() or 0 for m in messages])
        self.offsets.extend([m.offset() or 0 for m in messages])
        self.timestamps_ms.extend([max(m.timestamp()[1], 0) for m in messages])
        self.keys.extend([m.key() for m in messages])
        self.values.extend([m.value() or b"" for m in messages])

    def absorb(self, other: "Messages") -> None:
        """Append the messages of ``other``."""
        self.partitions += other.partitions
        self.offsets += other.offsets
        self.timestamps_ms += other.timestamps_ms
        self.keys += other.keys
        self.values += other.values

    def following(self, topic_id: str) -> Offsets:
        """Return the next offset of every partition that these messages touch."""
        last = dict(zip(self.partitions, self.offsets, strict=True))
        return Offsets({(topic_id, partition): offset + 1 for partition, offset in last.items()})


@dataclass(frozen=True)
class Topic:
    """A topic as it exists now."""

    name: str
    topic_id: str
    partitions: tuple[int, ...]


def describe_topic(bootstrap_servers: str, name: str) -> Topic:
    """Ask Kafka for a topic's UUID and partitions.

    Raises:
        TopicError: Kafka does not answer, or has no such topic.
    """
    admin = _admin(bootstrap_servers)
    try:
        futures = admin.describe_topics(TopicCollection([name]), request_timeout=_ADMIN_TIMEOUT_S)
        described = futures[name].result()
    except KafkaException as error:
        msg = f"Kafka at {bootstrap_servers} could not describe topic {name}: {error.args[0].str()}"
        raise TopicError(msg) from None
    return Topic(name, str(described.topic_id), tuple(sorted(p.id for p in described.partitions)))


def _admin(bootstrap_servers: str) -> AdminClient:
    return AdminClient({"bootstrap.servers": bootstrap_servers, "socket.timeout.ms": 10_000, "log_level": 3})


class KafkaReader:
    """Reads one topic, all its partitions, from a vector.

    Not safe for threads: a commit of group offsets in one thread while another consumes never returned.
    """

    def __init__(self, bootstrap_servers: str, topic: Topic, group: str) -> None:
        self.topic = topic
        self.stopped: dict[int, str] = {}
        self._admin = _admin(bootstrap_servers)
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap_servers,
                "group.id": group,
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
                "enable.partition.eof": False,
                "fetch.queue.backoff.ms": 5,
                "fetch.message.max.bytes": 8 * 1024 * 1024,
                "fetch.max.bytes": 64 * 1024 * 1024,
                "queued.min.messages": 200_000,
                "queued.max.messages.kbytes": 131_072,
                "check.crcs": True,
                "logger": _RdkafkaLog(),
            }
        )

    def seek(self, vector: Offsets) -> None:
        """Read on from ``vector``; a partition that it does not know is read from the oldest message kept."""
        following = {partition: vector.get(self.topic.topic_id, partition) for partition in self.topic.partitions}
        oldest = self._ask(_OLDEST) if None in following.values() else {}
        self._consumer.assign(
            [
                TopicPartition(self.topic.name, partition, oldest[partition] if offset is None else offset)
                for partition, offset in following.items()
            ]
        )
        self.stopped = {}

    def bounds(self) -> dict[int, tuple[int, int]]:
        """Return (oldest offset kept, next offset to be written) of every partition.

        Asked of all at once and not through the consumer, whose fetch holds every other question up for half a second.
        """
        oldest, following = self._ask(_OLDEST), self._ask(_FOLLOWING)
        return {partition: (oldest[partition], following[partition]) for partition in self.topic.partitions}

    def read(self, timeout_s: float) -> Messages:
        """Return what arrives within ``timeout_s``, at most 10,000 messages.

        A partition whose offset Kafka no longer has is stopped, loudly, in ``stopped``; the others go on.
        """
        messages = Messages()
        good: list[Message] = []
        for message in self._consumer.consume(_CONSUME_MESSAGES, timeout_s):
            error = message.error()
            if error is None:
                good.append(message)
            else:
                self._judge(message, error)
        messages.extend(good)
        return messages

    def lag(self, vector: Offsets) -> int:
        """Return how many messages of the topic lie beyond ``vector``; asks Kafka."""
        return sum(
            max(high - (vector.get(self.topic.topic_id, partition) or low), 0)
            for partition, (low, high) in self.bounds().items()
        )

    def show_progress(self, vector: Offsets) -> None:
        """Write the group's offsets, only so that ordinary Kafka tools see the lag; failing is no matter."""
        offsets = [
            TopicPartition(self.topic.name, partition, offset)
            for (topic_id, partition), offset in vector.items()
            if topic_id == self.topic.topic_id
        ]
        if offsets:
            self._consumer.commit(offsets=offsets, asynchronous=True)

    def close(self) -> None:
        """Leave Kafka."""
        self._consumer.close()

    def _ask(self, spec: OffsetSpec) -> dict[int, int]:
        asked = {TopicPartition(self.topic.name, partition): spec for partition in self.topic.partitions}
        answers = self._admin.list_offsets(asked, request_timeout=_ADMIN_TIMEOUT_S)
        return {place.partition: answer.result().offset for place, answer in answers.items()}

    def _judge(self, message: Message, error: KafkaError) -> None:
        partition = message.partition()
        if error.code() == KafkaError._AUTO_OFFSET_RESET and partition is not None:  # noqa: SLF001  # librdkafka's name
            low, high = self.bounds()[partition]
            self.stopped[partition] = (
                f"{self.topic.name} partition {partition}: the committed offset lies outside Kafka's log "
                f"({low} to {high}); messages were lost or the log was cut"
            )
            self._consumer.incremental_unassign([TopicPartition(self.topic.name, partition)])
            log.error("partition stopped", topic=self.topic.name, partition=partition, error=error.str())
            return
        log.warning("kafka said", topic=self.topic.name, partition=partition, error=error.str())


class _RdkafkaLog:
    """Sends librdkafka's own lines to our log."""

    def log(self, level: int, text: str, *args: object) -> None:
        log.info("librdkafka", level=level, text=text % args if args else text)
