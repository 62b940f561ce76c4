"""A venue of its own for each test: its topic on the session's broker, its tables in a lake of its own."""

import math
import random
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from pyiceberg.catalog import Catalog

from k2_assets.drain.topic_lane import Committed, Lane
from k2_assets.kafka.kafka_topic import NoTopic
from k2_assets.kafka.schema_lookup import SchemaLookup
from k2_assets.kafka.topic_reader import KafkaReader, Topic, describe_topic
from k2_assets.topic_tables.frame_tables import Layers
from k2_core import topics
from k2_core.lake.catalog import ensure_tables, open_catalog
from k2_core.lake.tables import all_tables
from k2_core.offsets import Offsets
from k2_core.registry import Registry
from k2_core.settings import Settings
from k2_core.venues.routing import Data
from tests.assets.frames import NOON_NS, a_frame, a_quote_frame, an_envelope
from tests.venue_builder import a_venue

Origin = tuple[str, int, int, int]
TRADE, BAD, CONTROL = "trade", "bad", "control"
NEVER_S = 1e9  # lanes commit at multiples of their interval: this one is decades away
LAYERS = ("bronze", "rejected", "silver")
SUBJECT = "frames of all topics"  # one for all: a drain that starts asks the registry about every subject


@dataclass
class OwnTopic:
    """What one test drains: ``produced`` says what each message must become."""

    broker: str
    registry_url: str
    home: Path
    partitions: int = 3
    data: Data = "trades"
    beside: "OwnTopic | None" = field(
        default=None, repr=False, compare=False
    )  # whose venue and lake are this one's too
    produced: dict[tuple[str, int, int], str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.venue = self.beside.venue if self.beside else a_venue(VENUE=f"venue_{uuid.uuid4().hex[:8]}")
        if self.beside:
            self.beside.beside = self
        self.settings = Settings(home=self.home)
        self.catalog: Catalog = self.beside.catalog if self.beside else open_catalog(self.settings)
        self.namespace = self.settings.catalog.namespace
        ensure_tables(self.catalog, self.namespace, all_tables((self.venue.VENUE,)))
        self.layers = Layers(self.catalog, self.namespace, self.venue, self.data)
        self.topic_name = topics.raw_topic("crypto", self.data, self.venue.VENUE)
        self.admin = AdminClient({"bootstrap.servers": self.broker, "log_level": 2})
        with Registry(self.registry_url) as registry:
            self.schema_id = registry.register(SUBJECT, topics.raw_frame_schema())
        self.make_topic()

    @property
    def described(self) -> Topic:
        return describe_topic(self.broker, self.topic_name, self.admin)

    @cached_property
    def producer(self) -> Producer:
        return Producer({"bootstrap.servers": self.broker, "linger.ms": 5, "log_level": 2})

    def make_topic(self) -> None:
        new = NewTopic(self.topic_name, self.partitions, 1, config=topics.topic_settings(7))
        self.admin.create_topics([new])[self.topic_name].result(timeout=30)
        while not self._is_known():
            time.sleep(0.05)

    def _is_known(self) -> bool:
        """A broker makes a topic a moment before it tells of it."""
        try:
            return bool(self.described.partitions)
        except NoTopic:
            return False

    def make_topic_again(self) -> None:
        self.admin.delete_topics([self.topic_name])[self.topic_name].result(timeout=30)
        while self.topic_name in self.admin.list_topics(timeout=10).topics:
            time.sleep(0.05)
        self.make_topic()

    def produce(self, count: int, seed: int = 0, kinds: tuple[str, ...] = (TRADE, TRADE, BAD, CONTROL)) -> None:
        """Write messages of every kind into every partition, and note what each must become."""
        rng, topic_id = random.Random(seed), self.described.topic_id
        first = len(self.produced)
        for number in range(first, first + count):
            kind = rng.choice(kinds)
            value = an_envelope(self.payload(kind, number), number, NOON_NS + number, self.schema_id)
            self.producer.produce(
                self.topic_name,
                value if kind != BAD or number % 2 else value[:-2],
                key=b"BTCUSDT",
                partition=rng.randrange(self.partitions),
                on_delivery=lambda error, message, kind=kind: self._note(error, topic_id, message, kind),
            )
            self.producer.poll(0)
        assert self.producer.flush(60) == 0

    def payload(self, kind: str, number: int) -> bytes:
        """Return what a venue would send: a good trade or quote, one with a price below zero, or a reply."""
        if kind == CONTROL:
            return b'{"result":null,"id":1}'
        if self.data == "quotes":
            return a_quote_frame(number, b="61837.63" if kind == TRADE else "-1")
        return a_frame(number, p="61837.63" if kind == TRADE else "-1")

    def _note(self, error: object, topic_id: str, message: object, kind: str) -> None:
        assert error is None, error
        self.produced[topic_id, message.partition(), message.offset()] = kind  # type: ignore[attr-defined]

    @contextmanager
    def lane(
        self,
        *,
        commit_rows: int = 500_000,
        commit_interval_s: float = NEVER_S,
        quiet_interval_s: float = 0.0,
        progress: Callable[[str], None] = lambda _: None,
    ) -> Iterator[Lane]:
        """Open a lane of its own, as a drain that starts would."""
        reader = KafkaReader(self.broker, self.described, "tests")
        layers = Layers(self.catalog, self.namespace, self.venue, self.data, quiet_s=quiet_interval_s)
        quiet = {"quiet_interval_s": quiet_interval_s}
        with Registry(self.registry_url) as registry:
            lane = Lane(layers, reader, SchemaLookup(registry), commit_rows, commit_interval_s, **quiet)
            try:
                lane.start(progress)
                if commit_interval_s == NEVER_S:
                    lane._due_at = math.inf  # else a first commit comes soon
                yield lane
            finally:
                lane.close()

    def owns(self, lane: Lane) -> bool:
        """Tell whether a drain's lane reads this topic; the session's broker may have others."""
        return lane.reader.topic.name == self.topic_name

    def drain(self) -> list[Committed]:
        """Drain all that Kafka holds, in one life of a lane."""
        with self.lane() as lane:
            return read_all(lane) + lane.finish()

    def vectors(self) -> list[Offsets]:
        self.layers.reload()
        vectors = [self.layers.vector(layer) for layer in LAYERS]
        return [vector.only({key for key, _ in vector.items() if self._is_own(key[0])}) for vector in vectors]

    def origins(self, layer: str) -> Counter[Origin]:
        """Count the rows of a table that came from this topic's lives, by where they came from."""
        table = self.catalog.load_table((self.namespace, self.layers.specs[layer].name))
        names = ["topic_id", "kafka_partition", "kafka_offset"]
        columns = table.scan(selected_fields=tuple(names + ["frame_index"] * (layer != "bronze"))).to_arrow()
        indexes = columns["frame_index"].to_pylist() if layer != "bronze" else [0] * columns.num_rows
        places = zip(*(columns[name].to_pylist() for name in names), indexes, strict=True)
        return Counter(place for place in places if self._is_own(place[0]))

    def _is_own(self, topic_id: str) -> bool:
        """Tell whether rows of the shared table are no other topic's."""
        return self.beside is None or topic_id not in {place[0] for place in self.beside.produced}

    def must_stand(self, *kinds: str) -> Counter[Origin]:
        return Counter({(*place, 0): 1 for place, kind in self.produced.items() if kind in kinds})

    def assert_everything_stands_once(self) -> None:
        assert self.origins("bronze") == self.must_stand(TRADE, BAD, CONTROL)
        assert self.origins("rejected") == self.must_stand(BAD)
        assert self.origins("silver") == self.must_stand(TRADE)
        bronze, rejected, silver = self.vectors()
        assert bronze == rejected == silver


def read_all(lane: Lane, count: int | None = None) -> list[Committed]:
    """Step until ``count`` more messages were read; by default all that Kafka holds beyond the lane's tables."""
    wanted = lane.read + (lane.reader.lag(lane.layers.vector("bronze")) if count is None else count)
    settled: list[Committed] = []
    deadline = time.monotonic() + 120  # noqa: TID251
    while lane.read < wanted:
        settled += lane.step(0.1)
        assert time.monotonic() < deadline, f"{lane.read} of {wanted} messages arrived"  # noqa: TID251
    return settled
