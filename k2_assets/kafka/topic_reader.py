"""Read Kafka in large batches from offsets that the lake keeps; Kafka's own group offsets are never trusted."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition
from confluent_kafka.admin import AdminClient

from k2_assets.kafka import topic_bounds
from k2_assets.kafka.kafka_topic import Topic, TopicWatch, admin_client, describe_topic, require_same
from k2_assets.kafka.topic_bounds import OLDEST, Outside
from k2_core.logs import logger
from k2_core.offsets import Offsets

__all__ = ["READ_MESSAGES", "KafkaReader", "Messages", "Outside", "Topic", "describe_topic"]

log = logger(__name__)

READ_MESSAGES: Final = 10_000
"""The most that one read returns."""
_QUEUED_MB: Final = 128
_LAST_MS = 253_402_300_799_999  # the end of the year 9999; some topics allow producers any timestamp


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

    def absorb(self, other: "Messages") -> None:
        """Append the messages of ``other``."""
        self.partitions += other.partitions
        self.offsets += other.offsets
        self.timestamps_ms += other.timestamps_ms
        self.keys += other.keys
        self.values += other.values

    def chosen(self, places: Sequence[int]) -> "Messages":
        """Return the messages at ``places``."""
        return Messages(*([column[place] for place in places] for column in vars(self).values()))

    def part(self, start: int, end: int) -> "Messages":
        """Return the messages of the positions [start, end)."""
        return Messages(*(column[start:end] for column in vars(self).values()))

    def following(self, topic_id: str) -> Offsets:
        """Return the next offset of every partition that these messages touch."""
        last = dict(zip(self.partitions, self.offsets, strict=True))
        return Offsets({(topic_id, partition): offset + 1 for partition, offset in last.items()})


class KafkaReader:
    """Reads one topic, all its partitions, from a vector.

    Not safe for threads: a commit of group offsets hung for ever while another thread consumed.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        topic: Topic,
        group: str,
        queued_mb: int = _QUEUED_MB,
        admin: AdminClient | None = None,
    ) -> None:
        """Connect to Kafka; what the client fetches ahead is at most about ``queued_mb``."""
        self.topic = topic
        self._sought: dict[int, int] = {}
        self.stopped: dict[int, str] = {}
        self.damaged: dict[int, str] = {}
        self._bootstrap_servers = bootstrap_servers
        self._admin = admin or admin_client(bootstrap_servers)
        self.watch = TopicWatch(self._admin, bootstrap_servers, topic)
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap_servers,
                "group.id": group,
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
                "enable.partition.eof": False,
                "fetch.queue.backoff.ms": 5,
                # A commit takes what seconds brought: an answer to every small batch costs the broker and this process.
                "fetch.min.bytes": 100_000,
                "fetch.wait.max.ms": 250,
                "fetch.message.max.bytes": 8 * 1024 * 1024,
                "fetch.max.bytes": 64 * 1024 * 1024,
                "queued.min.messages": 200_000,
                "queued.max.messages.kbytes": queued_mb * 1024,
                "check.crcs": True,
                "logger": _RdkafkaLog(),
            }
        )

    def seek(self, vector: Offsets) -> None:
        """Read on from ``vector``; a partition that it does not know is read from the oldest message kept."""
        following = {partition: vector.get(self.topic.topic_id, partition) for partition in self.topic.partitions}
        oldest = topic_bounds.offsets(self._admin, self.topic, OLDEST) if None in following.values() else {}
        self._sought = {part: oldest[part] if offset is None else offset for part, offset in following.items()}
        self._consumer.assign([TopicPartition(self.topic.name, part, offset) for part, offset in self._sought.items()])
        self.stopped = {}
        self.damaged = {}

    def bounds(self) -> dict[int, tuple[int, int]]:
        """Return (oldest offset kept, next offset to be written) of every partition.

        One question asks for all of them, and not through the consumer: its fetches delay other questions by 0.5 s.
        """
        return topic_bounds.ask(self._admin, self.topic)

    def read(self, timeout_s: float) -> Messages:
        """Return what arrives within ``timeout_s``, at most 10,000 messages.

        A partition whose offset Kafka no longer has stops, with an error in ``stopped``; the others go on.
        """
        good: list[Message] = []
        for message in self._consumer.consume(READ_MESSAGES, timeout_s):
            error = message.error()
            if error is None:
                good.append(message)
            else:
                self._judge(message, error)
        # A tombstone's missing value reads as empty bytes, a time beyond dates as the last one.
        messages = Messages(
            [m.partition() or 0 for m in good],
            [m.offset() or 0 for m in good],
            [min(max(m.timestamp()[1], 0), _LAST_MS) for m in good],
            [m.key() for m in good],
            [m.value() or b"" for m in good],
        )
        for partition in self.damaged.keys() & set(messages.partitions):
            del self.damaged[partition]
        return messages

    def require_same_topic(self) -> None:
        """Make sure that Kafka's topic is still the one that this reader was opened for. May run in any thread.

        Call it after messages were read and before they are committed: while the UUID is the same, every message that
        was read before this call came from that topic.

        Raises:
            TopicError: it was deleted or made again, or Kafka does not answer.
        """
        require_same(self.topic, describe_topic(self._bootstrap_servers, self.topic.name, self._admin))

    def lag(self, vector: Offsets) -> int:
        """Return how many messages of the topic lie beyond ``vector``."""
        return topic_bounds.lag(self.topic, vector, self.bounds())

    def show_progress(self, vector: Offsets) -> None:
        """Write the group's offsets, only so that ordinary Kafka tools see the lag; a failure does not matter."""
        offsets = [
            TopicPartition(self.topic.name, partition, offset)
            for (topic_id, partition), offset in vector.items()
            if topic_id == self.topic.topic_id
        ]
        if offsets:
            self._consumer.commit(offsets=offsets, asynchronous=True)

    def close(self) -> None:
        self._consumer.close()

    def _judge(self, message: Message, error: KafkaError) -> None:
        partition = message.partition()
        if error.code() == KafkaError._AUTO_OFFSET_RESET and partition is not None:  # noqa: SLF001  # librdkafka's name
            # Kafka cannot serve the offset. A topic of the same name that replaced this one is another matter: it is
            # read from its beginning. Otherwise messages are lost, and a person decides how this partition goes on.
            self.require_same_topic()
            low, high = self.bounds()[partition]
            (place,) = self._consumer.position([TopicPartition(self.topic.name, partition)])
            offset = place.offset if place.offset >= 0 else self._sought[partition]
            self.stopped[partition] = Outside(self.topic.name, partition, offset, low, high).sentence()
            self._consumer.incremental_unassign([TopicPartition(self.topic.name, partition)])
            log.error("partition stopped", error=self.stopped[partition])
            return
        if error.code() == KafkaError._BAD_MSG and partition is not None:  # noqa: SLF001  # librdkafka's name
            self.damaged[partition] = (
                f"{self.topic.name} partition {partition} cannot be read: a batch in Kafka is damaged ({error.str()}); "
                "it is tried again, and what comes after it waits"
            )
        log.warning("kafka reports", topic=self.topic.name, partition=partition, error=error.str())


class _RdkafkaLog:
    """Sends librdkafka's own lines to our log."""

    def log(self, level: int, text: str, *args: object) -> None:
        log.info("librdkafka", level=level, text=text % args if args else text)
