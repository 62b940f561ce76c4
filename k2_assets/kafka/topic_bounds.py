"""The range of offsets that Kafka holds of a topic, and how a vector of committed offsets compares with it."""

from dataclasses import dataclass

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from k2_assets.kafka.kafka_topic import ADMIN_TIMEOUT_S, Topic
from k2_core.offsets import Offsets

Bounds = dict[int, tuple[int, int]]
"""By partition: (oldest offset kept, next offset to be written)."""

OLDEST, _FOLLOWING = OffsetSpec.earliest(), OffsetSpec.latest()  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class Outside:
    """A partition whose next offset Kafka does not have: its log runs from ``low`` to before ``high``."""

    topic: str
    partition: int
    offset: int
    low: int
    high: int

    def sentence(self) -> str:
        """Describe what happened and what a person can do."""
        where = f"{self.topic} partition {self.partition}: the committed offset {self.offset} lies outside Kafka's log "
        if self.offset > self.high:
            return where + f"({self.low} to {self.high}): Kafka has lost its newest messages; bring its data back"
        lost = max(self.low - self.offset, 0)
        return (
            f"{where}({self.low} to {self.high}): {lost:,} messages were lost; bring Kafka's data back, "
            f"or `k2 drain accept-loss {self.topic} {self.partition}`"
        )


def ask(admin: AdminClient, topic: Topic) -> Bounds:
    """Ask Kafka for the bounds of every partition.

    Raises:
        KafkaException: Kafka does not answer.
    """
    low, high = offsets(admin, topic, OLDEST), offsets(admin, topic, _FOLLOWING)
    return {partition: (low[partition], high[partition]) for partition in topic.partitions}


def offsets(admin: AdminClient, topic: Topic, spec: OffsetSpec) -> dict[int, int]:
    """Ask Kafka for one offset of every partition, such as :data:`OLDEST`, the oldest that it keeps."""
    asked = {TopicPartition(topic.name, partition): spec for partition in topic.partitions}
    answers = admin.list_offsets(asked, request_timeout=ADMIN_TIMEOUT_S)
    return {place.partition: answer.result().offset for place, answer in answers.items()}


def outside(topic: Topic, vector: Offsets, bounds: Bounds) -> dict[int, Outside]:
    """Return the partitions whose offset in ``vector`` Kafka does not have: the log was cut there."""
    committed = {partition: vector.get(topic.topic_id, partition) for partition in topic.partitions}
    return {
        partition: Outside(topic.name, partition, offset, low, high)
        for partition, (low, high) in bounds.items()
        if (offset := committed[partition]) is not None and not low <= offset <= high
    }


def waiting(topic: Topic, vector: Offsets, bounds: Bounds) -> dict[int, tuple[int, int]]:
    """Return the partitions that hold messages beyond ``vector``: the offset of the first, and how many they are.

    Messages that Kafka has already removed do not count.
    """
    return {
        partition: (first, high - first)
        for partition, (low, high) in bounds.items()
        if high > (first := max(vector.get(topic.topic_id, partition) or 0, low))
    }


def lag(topic: Topic, vector: Offsets, bounds: Bounds) -> int:
    """Return how many messages lie beyond ``vector``."""
    return sum(count for _, count in waiting(topic, vector, bounds).values())
