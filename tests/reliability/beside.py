"""A drain in a thread of the test, and what it says of itself while something around it is broken."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from confluent_kafka import Consumer, TopicPartition

from k2_assets.drain.drain_loop import drain
from k2_assets.kept_runs.heartbeat import read_beat
from k2_assets.kept_runs.kept_run import kept_drain
from k2_assets.lake.lake_resource import Lake
from k2_core.settings import Catalog, Drain, Kafka, Registry, Settings
from tests.assets.own_topic import OwnTopic
from tests.reliability.waiting import wait_until


def settings_of(own_topic: OwnTopic, registry_url: str = "", catalog_uri: str | None = None) -> Settings:
    """Return settings of a drain of quick commits and a quick beat."""
    return Settings(
        home=own_topic.home,
        kafka=Kafka(bootstrap_servers=own_topic.broker),
        registry=Registry(url=registry_url or own_topic.registry_url),
        catalog=Catalog(uri=catalog_uri),
        drain=Drain(commit_interval_s=0.2, quiet_interval_s=1.0, work_minutes=30, beat_interval_s=0.1),
    )


@dataclass
class Draining:
    """A drain that works in a thread."""

    own_topic: OwnTopic
    settings: Settings
    failed: list[BaseException] = field(default_factory=list)

    def said(self) -> str:
        """Return what the drain says of itself: its phase, and what is wrong."""
        beat = read_beat(kept_drain(self.settings).store, self.settings.drain.name)
        return f"{beat.phase}: {beat.detail}" if beat else ""

    def until_it_says(self, *words: str) -> float:
        """Wait until it says all of these words, and return how long that took."""
        return wait_until(lambda: all(word in self.said() for word in words), self._state)

    def until_all_stands(self) -> float:
        """Wait until every layer is at the end of Kafka's log, and return how long that took."""
        return wait_until(lambda: all(self._stands(layer) for layer in range(3)), self._state, every_s=0.2)

    def _stands(self, layer: int) -> bool:
        vector, topic = self.own_topic.vectors()[layer], self.own_topic.described
        ends = ends_of(self.own_topic)
        return all((vector.get(topic.topic_id, part) or 0) == end for part, end in ends.items())

    def _state(self) -> object:
        assert not self.failed, self.failed
        return self.said(), self.own_topic.vectors()

    def run(self, stop: threading.Event) -> None:
        """Drain; an error that ends the drain is kept for the test."""
        try:
            for _ in drain(Lake(self.settings), [self.own_topic.venue], "beside", stop):
                pass
        except BaseException as error:  # noqa: BLE001  # shown by the test
            self.failed.append(error)


@contextmanager
def draining(own_topic: OwnTopic, settings: Settings | None = None) -> Iterator[Draining]:
    """Drain a topic while the block runs; the drain must not end by an error."""
    works, stop = Draining(own_topic, settings or settings_of(own_topic)), threading.Event()
    thread = threading.Thread(target=works.run, args=(stop,))
    thread.start()
    try:
        yield works
    finally:
        stop.set()
        thread.join()
    assert works.failed == []


def ends_of(own_topic: OwnTopic) -> dict[int, int]:
    """Return the next offset of every partition, as a plain consumer sees it."""
    with _plain(own_topic) as consumer:
        places = [TopicPartition(own_topic.topic_name, part) for part in range(own_topic.partitions)]
        return {place.partition: consumer.get_watermark_offsets(place, timeout=30)[1] for place in places}


def in_kafka(own_topic: OwnTopic) -> Counter[tuple[str, int, int, int]]:
    """Read every message with a plain consumer, and return where each stands."""
    topic_id, found = own_topic.described.topic_id, Counter[tuple[str, int, int, int]]()
    with _plain(own_topic) as consumer:
        for partition, end in ends_of(own_topic).items():
            consumer.assign([TopicPartition(own_topic.topic_name, partition, 0)])
            at = 0
            while at < end:
                for message in consumer.consume(10_000, timeout=1):
                    assert message.error() is None, message.error()
                    at = message.offset() + 1
                    found[topic_id, partition, message.offset(), 0] += 1
    return found


@contextmanager
def _plain(own_topic: OwnTopic) -> Iterator[Consumer]:
    consumer = Consumer(
        {"bootstrap.servers": own_topic.broker, "group.id": "a-plain-reader", "enable.auto.commit": False}
    )
    try:
        yield consumer
    finally:
        consumer.close()


@dataclass(frozen=True)
class Compared:
    """How bronze, and silver with rejected, differ from what was produced."""

    compared: int
    lost: int
    doubled: int


def compare(own_topic: OwnTopic) -> Compared:
    """Compare multisets with what was produced; every message of it is a frame of its own."""
    wanted = [own_topic.must_stand("trade", "bad", "control"), own_topic.must_stand("trade", "bad")]
    found = [own_topic.origins("bronze"), own_topic.origins("silver") + own_topic.origins("rejected")]
    lost = sum((want - have).total() for want, have in zip(wanted, found, strict=True))
    doubled = sum((have - want).total() for want, have in zip(wanted, found, strict=True))
    return Compared(sum(want.total() for want in wanted), lost, doubled)
