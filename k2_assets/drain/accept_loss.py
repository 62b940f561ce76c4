"""Accept that Kafka has lost messages which no drain had read: find the lost range, and step over it in every layer."""

from collections.abc import Iterable
from dataclasses import dataclass

from pyiceberg.catalog import Catalog

from k2_assets.kafka.kafka_topic import describe_topic
from k2_assets.kafka.topic_reader import KafkaReader
from k2_assets.lake.commits import arrow_schema, commit_drained
from k2_core.crash_points import reach
from k2_core.errors import CommitConflict, OffsetError
from k2_core.lake.table_spec import TableSpec
from k2_core.lake.tables import drained_from
from k2_core.logs import logger
from k2_core.offsets import Offsets
from k2_core.settings import Settings
from k2_core.topics import venue_of
from k2_core.venues.venue_protocol import Venue

log = logger(__name__)


@dataclass(frozen=True)
class Loss:
    """The offsets [first, end) of one partition, which the lake does not have and Kafka has no longer."""

    topic: str
    topic_id: str
    partition: int
    first: int
    end: int
    tables: tuple[TableSpec, ...]
    """That drains fill from the topic, bronze first."""

    @property
    def messages(self) -> int:
        """How many messages are lost."""
        return self.end - self.first

    @property
    def venue(self) -> str:
        """The venue whose frames they were; empty for the feeds' events."""
        return venue_of(self.topic) or ""

    def details(self) -> dict[str, str]:
        """Return the loss as the details of a feed event."""
        texts = {"topic": self.topic, "topic_id": self.topic_id}
        numbers = {"partition": self.partition, "first_lost_offset": self.first, "next_kept_offset": self.end}
        return {**texts, **{name: str(number) for name, number in numbers.items()}, "messages": str(self.messages)}


def find_loss(settings: Settings, catalog: Catalog, venues: Iterable[Venue], topic: str, partition: int) -> Loss:
    """Return what a stopped partition has lost, of a topic of the feeds' events or of one of these venues.

    Raises:
        OffsetError: nothing is lost that could be accepted; it gives the reason.
        TopicError: Kafka does not answer, or has no such topic.
    """
    known = drained_from(venues)
    if topic not in known:
        raise OffsetError(f"no drain reads a topic {topic}: there is {', '.join(sorted(known))}")
    described = describe_topic(settings.bootstrap_servers, topic)
    if partition not in described.partitions:
        raise OffsetError(f"{topic} has no partition {partition}: it has {len(described.partitions)}, from 0")
    bronze = catalog.load_table((settings.catalog.namespace, known[topic][0].name))
    offset = Offsets.from_properties(bronze.properties).get(described.topic_id, partition)
    reader = KafkaReader(settings.bootstrap_servers, described, "k2-accept-loss")
    try:
        low, high = reader.bounds()[partition]
    finally:
        reader.close()
    where = f"{topic} partition {partition}: Kafka's log runs from {low} to {high}"
    if offset is None:
        raise OffsetError(f"{where}, and nothing of it was committed yet: a drain begins at its oldest message")
    if offset > high:
        raise OffsetError(
            f"{where}, before the committed offset {offset}: Kafka has lost its newest messages, which the lake has; "
            "bring its data back, or delete the topic, which the feed makes again and drains read from its beginning"
        )
    if offset >= low:
        raise OffsetError(f"{where}, and the committed offset {offset} lies in it: there is nothing to accept")
    return Loss(topic, described.topic_id, partition, offset, low, known[topic])


def accept(settings: Settings, catalog: Catalog, loss: Loss) -> list[str]:
    """Move the committed offsets of bronze, rejected and silver over a loss; return the tables that were moved.

    This may be interrupted anywhere, and may run beside a drain.

    Raises:
        CommitConflict: a drain has moved bronze meanwhile; look again at what is lost.
    """
    # Each table in a commit of its own, bronze first: a drain that finds rejected or silver behind bronze fills them
    # from bronze, which has no rows of the loss. A table with other offsets than bronze is left to the drain: it has
    # not yet taken in rows of bronze from before the loss.
    partition = loss.topic_id, loss.partition
    before, after = Offsets({partition: loss.first}), Offsets({partition: loss.end})
    moved: list[str] = []
    for spec in loss.tables:
        if moved:
            reach(f"{spec.name}.accept_loss")
        try:
            table = catalog.load_table((settings.catalog.namespace, spec.name))
            commit_drained(table, arrow_schema(spec).empty_table(), before, after)
            moved.append(spec.name)
        except CommitConflict as conflict:
            if not moved:  # bronze
                raise
            log.info("left to the drain", table=spec.name, reason=str(conflict))
    return moved
