"""A topic deleted and created again under a drain that works: frames of the new one never get the old one's id."""

import threading
from collections import Counter
from pathlib import Path

import pytest
from confluent_kafka import Producer

from k2_assets.kafka.kafka_topic import NoTopic
from tests.assets.frames import NOON_NS, a_frame, an_envelope
from tests.assets.own_topic import OwnTopic
from tests.reliability.beside import draining
from tests.reliability.measured import Faults
from tests.reliability.waiting import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.reliability("surroundings")]

FAULT = "topic deleted and created again while a drain reads it"
FEW = 300
Placed = Counter[tuple[str, int, int, int]]


@pytest.fixture
def own_topic(broker: str, registry: str, tmp_path: Path) -> OwnTopic:
    return OwnTopic(broker, registry, tmp_path / "home")


def produce(own_topic: OwnTopic, first: int, count: int) -> Placed:
    """Write trades with the ids from ``first`` on; return where each stands, and which it is."""
    topic_id, placed, lock = own_topic.described.topic_id, Placed(), threading.Lock()
    producer = Producer({"bootstrap.servers": own_topic.broker, "log_level": 2})

    def note(error: object, message: object, trade_id: int) -> None:
        assert error is None, error
        with lock:
            placed[topic_id, message.partition(), message.offset(), trade_id] += 1  # type: ignore[attr-defined]

    for trade_id in range(first, first + count):
        value = an_envelope(a_frame(trade_id), trade_id, NOON_NS + trade_id, own_topic.schema_id)
        producer.produce(
            own_topic.topic_name,
            value,
            partition=trade_id % own_topic.partitions,
            on_delivery=lambda error, message, trade_id=trade_id: note(error, message, trade_id),
        )
    assert producer.flush(60) == 0
    return placed


def stands(own_topic: OwnTopic) -> bool:
    """Tell whether Kafka shows the topic; it takes a moment after it was made."""
    try:
        return bool(own_topic.described.topic_id)
    except NoTopic:
        return False


def in_silver(own_topic: OwnTopic) -> Placed:
    table = own_topic.catalog.load_table((own_topic.namespace, own_topic.layers.specs["silver"].name))
    names = ("topic_id", "kafka_partition", "kafka_offset", "source_sequence")
    rows = table.scan(selected_fields=names).to_arrow()
    return Counter(zip(*(rows[name].to_pylist() for name in names), strict=True))


def test_frames_of_a_topic_created_again_never_stand_under_the_old_id(
    own_topic: OwnTopic, reliability: Faults, soak: bool
) -> None:
    following, old = 1, Placed()
    with draining(own_topic) as drain:
        standing = produce(own_topic, following, FEW)
        for round_ in range(12 if soak else 3):
            following += FEW
            if round_ % 2 == 0:  # else it is deleted while messages of it are on their way
                drain.until_all_stands()
            old += standing
            own_topic.make_topic_again()
            wait_until(lambda: stands(own_topic), lambda: "no topic")
            standing = produce(own_topic, following, 3 * FEW)  # beyond the offsets at which the drain reads
            following += 3 * FEW
            made = standing
            recovered_s = wait_until(lambda made=made: made <= in_silver(own_topic), drain.said, every_s=0.2)
            silver = in_silver(own_topic)
            wrong = silver - old - standing
            assert wrong == Counter(), "frames are where they never were in Kafka"
            lost, doubled = (standing - silver).total(), (silver - old - standing).total()
            reliability.record(FAULT, recovered_s=recovered_s, compared=len(standing), lost=lost, doubled=doubled)
    bronze = own_topic.origins("bronze")
    assert set(bronze.values()) == {1}
    assert bronze == Counter((*place[:3], 0) for place in in_silver(own_topic))


def test_a_topic_that_is_gone_is_said_and_waited_for(own_topic: OwnTopic, reliability: Faults) -> None:
    with draining(own_topic) as drain:
        first = produce(own_topic, 1, FEW)
        drain.until_all_stands()
        own_topic.admin.delete_topics([own_topic.topic_name])[own_topic.topic_name].result(timeout=30)

        noticed_s = drain.until_it_says("waiting", f"could not describe topic {own_topic.topic_name}")

        own_topic.make_topic()
        wait_until(lambda: stands(own_topic), lambda: "no topic")
        standing = produce(own_topic, FEW + 1, FEW)
        recovered_s = drain.until_all_stands()
        drain.until_it_says("waiting: ")
        wait_until(lambda: drain.said() == "waiting: ", drain.said)
    silver = in_silver(own_topic)
    assert silver == first + standing
    fault = "topic deleted, and created again later"
    reliability.record(fault, noticed_s=noticed_s, recovered_s=recovered_s, compared=len(silver))
