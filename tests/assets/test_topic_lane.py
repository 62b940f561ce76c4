"""Kafka to bronze, rejected and silver on a real broker and registry: whatever is interrupted, each is stored once."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError, TopicPartition

from k2_assets.drain.topic_lane import Committed, Lane
from k2_assets.kafka.topic_reader import KafkaReader, describe_topic
from k2_assets.lake.commits import commit_drained
from k2_assets.topic_tables import drained_tables, frame_tables
from k2_core.errors import CommitConflict, TopicError
from k2_core.offsets import Offsets
from tests.assets.own_topic import BAD, CONTROL, LAYERS, TRADE, OwnTopic, read_all

pytestmark = pytest.mark.integration


@pytest.fixture
def own_topic(broker: str, registry: str, tmp_path: Path) -> OwnTopic:
    return OwnTopic(broker, registry, tmp_path / "home")


class Interrupted(OSError):
    """What a test's fault raises; a drain waits such a one out."""


def interrupt(monkeypatch: pytest.MonkeyPatch, at: int, *, takes_place: bool) -> None:
    """Let the ``at``-th commit from now on fail, before or after it took place."""
    original, calls = drained_tables.commit_drained, iter(range(1_000_000))

    def commit(*arguments: Any) -> Any:
        if next(calls) != at:
            return original(*arguments)
        if takes_place:
            original(*arguments)
        raise Interrupted

    monkeypatch.setattr(drained_tables, "commit_drained", commit)


def test_everything_stands_once_when_nothing_interrupts(own_topic: OwnTopic) -> None:
    own_topic.produce(400)

    committed = own_topic.drain()

    assert sum(each.batch.bronze.num_rows for each in committed) == 400
    own_topic.assert_everything_stands_once()


def test_a_second_life_reads_only_what_is_new(own_topic: OwnTopic) -> None:
    own_topic.produce(50)
    own_topic.drain()
    assert own_topic.drain() == []

    own_topic.produce(30, seed=1)
    committed = own_topic.drain()

    assert [each.batch.bronze.num_rows for each in committed] == [30]
    own_topic.assert_everything_stands_once()


def test_batches_are_committed_while_reading_goes_on(own_topic: OwnTopic) -> None:
    own_topic.produce(3_000)

    with own_topic.lane(commit_rows=500) as lane:
        settled = read_all(lane) + lane.finish()

    assert sum(each.batch.bronze.num_rows for each in settled) == 3_000
    assert own_topic.catalog.load_table((own_topic.namespace, lane.layers.specs["bronze"].name)).snapshots()
    own_topic.assert_everything_stands_once()


@pytest.mark.parametrize("takes_place", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", range(3), ids=LAYERS)
def test_a_drain_that_ends_at_any_commit_is_made_good_by_the_next(
    own_topic: OwnTopic, monkeypatch: pytest.MonkeyPatch, at: int, takes_place: bool
) -> None:
    own_topic.produce(60)
    own_topic.drain()
    own_topic.produce(60, seed=1)

    with monkeypatch.context() as patch:
        interrupt(patch, at, takes_place=takes_place)
        with pytest.raises(Interrupted):
            own_topic.drain()
    moved = [vector != own_topic.vectors()[-1] for vector in own_topic.vectors()]
    assert moved == [layer < at or (layer == at and takes_place) for layer in range(3)] or (at, takes_place) == (
        2,
        True,
    )
    own_topic.drain()

    own_topic.assert_everything_stands_once()


@pytest.mark.parametrize(("at", "takes_place"), [(0, False), (1, True), (3, False), (4, True)])
def test_a_drain_that_ends_while_catching_up_is_made_good_by_the_next(
    own_topic: OwnTopic, monkeypatch: pytest.MonkeyPatch, at: int, takes_place: bool
) -> None:
    monkeypatch.setattr(frame_tables, "_CATCH_UP_OFFSETS", 10)
    own_topic.produce(60)
    with monkeypatch.context() as patch:
        interrupt(patch, 0, takes_place=True)  # bronze alone
        with pytest.raises(Interrupted):
            own_topic.drain()
    with monkeypatch.context() as patch:
        interrupt(patch, at, takes_place=takes_place)
        with pytest.raises(Interrupted):
            own_topic.drain()

    assert own_topic.drain() == []

    own_topic.assert_everything_stands_once()


def test_silver_is_made_from_bronze_though_kafka_has_lost_the_messages(
    own_topic: OwnTopic, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_topic.produce(40)
    with monkeypatch.context() as patch:
        interrupt(patch, 0, takes_place=True)
        with pytest.raises(Interrupted):
            own_topic.drain()
    (bronze, *_) = own_topic.vectors()
    cut = [TopicPartition(own_topic.topic_name, part, offset) for (_, part), offset in bronze.items()]
    for future in own_topic.admin.delete_records(cut).values():
        future.result(timeout=30)

    assert own_topic.drain() == []

    own_topic.assert_everything_stands_once()


def test_two_lanes_on_the_same_partitions_never_double(own_topic: OwnTopic) -> None:
    own_topic.produce(600)
    with own_topic.lane() as one, own_topic.lane() as other:
        read_all(one)
        own_topic.produce(5, seed=2)
        read_all(other)
        assert sum(each.batch.bronze.num_rows for each in one.finish()) == 600
        with pytest.raises(CommitConflict):
            other.finish()
        other.start()
        own_topic.produce(50, seed=1)
        assert sum(each.batch.bronze.num_rows for each in read_all(other) + other.finish()) == 55
        own_topic.produce(3, seed=3)
        read_all(one, 58)
        with pytest.raises(CommitConflict):
            one.finish()

    own_topic.drain()
    own_topic.assert_everything_stands_once()


def test_the_very_same_batch_of_two_lanes_stands_once(own_topic: OwnTopic) -> None:
    """The second gets an error: it must neither report it a second time nor go on from its own rows."""
    own_topic.produce(100)
    with own_topic.lane() as one, own_topic.lane() as other:
        for lane in (one, other):
            read_all(lane)
        one.finish()
        with pytest.raises(CommitConflict):
            other.finish()

    own_topic.assert_everything_stands_once()


def test_a_partition_whose_offset_kafka_lost_stops_loudly_and_the_others_go_on(own_topic: OwnTopic) -> None:
    own_topic.produce(90)
    own_topic.drain()
    before = dict(own_topic.vectors()[0].items())
    own_topic.produce(90, seed=1)
    topic_id = own_topic.described.topic_id
    _, end = watermarks(own_topic, 0)
    assert end > before[topic_id, 0] + 1
    lost = {place for place in own_topic.produced if place[1] == 0 and place[2] >= before[topic_id, 0]}
    own_topic.admin.delete_records([TopicPartition(own_topic.topic_name, 0, end - 1)])
    wait_until(lambda: watermarks(own_topic, 0)[0] == end - 1)

    with own_topic.lane() as lane:
        others = 90 - len(lost)
        wait_until(lambda: lane.step(0.1) == [] and bool(lane.reader.stopped) and lane.read == others)
        lane.finish()
        assert set(lane.reader.stopped) == {0}
        assert (
            f"partition 0: the committed offset {before[topic_id, 0]} lies outside Kafka's log ({end - 1} to {end})"
            in (lane.reader.stopped[0])
        )

    for place in lost:
        del own_topic.produced[place]
    own_topic.assert_everything_stands_once()
    assert dict(own_topic.vectors()[0].items())[topic_id, 0] == before[topic_id, 0]


def test_a_topic_made_again_opens_a_new_vector_and_loses_nothing(own_topic: OwnTopic) -> None:
    own_topic.produce(60)
    own_topic.drain()
    old = own_topic.described.topic_id
    own_topic.make_topic_again()
    own_topic.produce(30, seed=1)
    assert own_topic.described.topic_id != old

    own_topic.drain()

    own_topic.assert_everything_stands_once()
    assert {topic_id for (topic_id, _), _ in own_topic.vectors()[0].items()} == {old, own_topic.described.topic_id}


def test_a_vector_that_moved_without_rows_is_opened_in_every_layer(own_topic: OwnTopic) -> None:
    """As when a lost range was accepted: bronze goes on behind it, and so must the others."""
    own_topic.produce(30)
    topic_id = own_topic.described.topic_id
    bronze = own_topic.catalog.load_table((own_topic.namespace, own_topic.layers.specs["bronze"].name))
    skipped = Offsets({(topic_id, 0): 5})
    commit_drained(bronze, own_topic.layers.schemas["bronze"].empty_table(), Offsets(), skipped)

    own_topic.drain()

    for place in [place for place in own_topic.produced if place[1] == 0 and place[2] < 5]:
        del own_topic.produced[place]
    own_topic.assert_everything_stands_once()


def test_a_topic_that_is_not_there_is_said(broker: str) -> None:
    with pytest.raises(TopicError, match=r"could not describe topic nobody\.made\.this"):
        describe_topic(broker, "nobody.made.this")


def test_group_offsets_are_written_for_ordinary_tools(own_topic: OwnTopic) -> None:
    own_topic.produce(40)
    with own_topic.lane() as lane:
        read_all(lane)
        (committed,) = lane.finish()
        assert lane.reader.lag(committed.batch.following) == 0
        assert lane.reader.lag(Offsets()) == 40

    consumer = KafkaReader(own_topic.broker, own_topic.described, "tests")._consumer
    try:
        parts = [TopicPartition(own_topic.topic_name, part) for part in range(own_topic.partitions)]
        wait_until(lambda: all(each.offset >= 0 for each in consumer.committed(parts, timeout=10)))
        shown = {each.partition: each.offset for each in consumer.committed(parts, timeout=10)}
    finally:
        consumer.close()
    assert shown == {part: offset for (_, part), offset in committed.batch.following.items()}


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60  # noqa: TID251
    while not holds():
        assert time.monotonic() < deadline  # noqa: TID251
        time.sleep(0.05)


def watermarks(own_topic: OwnTopic, partition: int) -> tuple[int, int]:
    reader = KafkaReader(own_topic.broker, own_topic.described, "tests")
    try:
        return reader.bounds()[partition]
    finally:
        reader.close()


class Damaged:
    """What the client hands over in the place of a batch whose checksum is wrong."""

    def partition(self) -> int:
        return 1

    def error(self) -> KafkaError:
        return KafkaError(KafkaError._BAD_MSG)


def test_a_damaged_batch_is_said_until_its_partition_is_read_again(
    own_topic: OwnTopic, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_topic.produce(60)
    with own_topic.lane() as lane:
        reader = lane.reader
        real = reader._consumer
        monkeypatch.setattr(reader, "_consumer", type("Once", (), {"consume": lambda *_: [Damaged()]})())
        assert len(reader.read(0.1)) == 0
        assert "partition 1 cannot be read: a batch in Kafka is damaged" in reader.damaged[1]
        monkeypatch.setattr(reader, "_consumer", real)

        read_all(lane)
        lane.finish()
        assert reader.damaged == {}

    own_topic.assert_everything_stands_once()


def test_a_catch_up_tells_of_each_of_its_pieces(own_topic: OwnTopic, monkeypatch: pytest.MonkeyPatch) -> None:
    """A drain that tells nothing for five minutes is taken for hung, and its catch-up would begin again for ever."""
    monkeypatch.setattr(frame_tables, "_CATCH_UP_OFFSETS", 10)
    own_topic.produce(60)
    with monkeypatch.context() as patch:
        interrupt(patch, 0, takes_place=True)  # bronze alone
        with pytest.raises(Interrupted):
            own_topic.drain()
    reported: list[str] = []

    with own_topic.lane(progress=reported.append):
        rejected, silver = (own_topic.layers.specs[layer].name for layer in ("rejected", "silver"))

    assert [text for text in reported if text.startswith(f"{rejected} from bronze")]
    assert len([text for text in reported if text.startswith(f"{silver} from bronze")]) >= 6
    own_topic.assert_everything_stands_once()


def committed(own_topic: OwnTopic, lane: Lane, *kinds: str) -> list[Committed]:
    """Have the lane read, and commit what it would after its interval."""
    own_topic.produce(10, kinds=kinds)
    settled = read_all(lane, 10)
    time.sleep(0.01)  # longer than its interval
    settled += lane.step(0)
    while lane.committing_s:
        settled += lane.step(0.01)
    return settled


def test_a_table_that_gets_no_rows_is_committed_now_and_then_and_in_the_end(own_topic: OwnTopic) -> None:
    with own_topic.lane(commit_interval_s=0.001, quiet_interval_s=3600) as lane:
        assert committed(own_topic, lane, TRADE)
        first = own_topic.vectors()[1]
        assert committed(own_topic, lane, TRADE)
        assert committed(own_topic, lane, TRADE, CONTROL)
        bronze, rejected, silver = own_topic.vectors()
        assert (rejected, bronze) == (first, silver)
        assert rejected != bronze

        assert committed(own_topic, lane, BAD)
        bronze, rejected, silver = own_topic.vectors()
        assert bronze == rejected == silver
        assert committed(own_topic, lane, TRADE)
        assert own_topic.vectors()[1] == rejected
        lane.finish()
    own_topic.assert_everything_stands_once()


def test_a_table_that_was_left_out_is_committed_when_nothing_comes_any_more(own_topic: OwnTopic) -> None:
    with own_topic.lane(commit_interval_s=0.001, quiet_interval_s=0.5) as lane:
        assert committed(own_topic, lane, TRADE)
        assert committed(own_topic, lane, TRADE)
        wait_until(lambda: bool(lane.step(0.01)) or own_topic.vectors()[1] == own_topic.vectors()[0])
    own_topic.assert_everything_stands_once()


def test_a_table_that_was_left_out_when_a_drain_died_is_caught_up_with_silver(own_topic: OwnTopic) -> None:
    with own_topic.lane(commit_interval_s=0.001, quiet_interval_s=3600) as lane:
        assert committed(own_topic, lane, TRADE)
        assert committed(own_topic, lane, TRADE)  # and it ends without finishing, as one that is killed
    assert own_topic.vectors()[1] != own_topic.vectors()[0]

    reported: list[str] = []
    with own_topic.lane(progress=reported.append):
        bronze, rejected, silver = own_topic.vectors()
    assert bronze == rejected == silver
    assert reported == [], "what silver holds is judged: nothing is made of it again"
    own_topic.assert_everything_stands_once()


def test_heartbeats_alone_are_committed_now_and_then_and_in_the_end(own_topic: OwnTopic) -> None:
    with own_topic.lane(commit_interval_s=0.001, quiet_interval_s=3600) as lane:
        assert committed(own_topic, lane, CONTROL)  # the first of a life: nobody knows how long they have waited
        stands = own_topic.vectors()
        assert not committed(own_topic, lane, CONTROL)
        assert not committed(own_topic, lane, CONTROL)
        assert own_topic.vectors() == stands
        assert committed(own_topic, lane, CONTROL, TRADE)
        assert not committed(own_topic, lane, CONTROL)
        assert lane.finish()
    own_topic.assert_everything_stands_once()


def test_a_commit_is_slow_only_against_the_recent_ones(own_topic: OwnTopic, monkeypatch: pytest.MonkeyPatch) -> None:
    goes_on, commit = threading.Event(), drained_tables.commit_drained
    monkeypatch.setattr(drained_tables, "commit_drained", lambda *arguments: goes_on.wait(60) and commit(*arguments))
    with own_topic.lane(commit_interval_s=0.01) as lane:
        own_topic.produce(10)
        wait_until(lambda: bool(lane.step(0.05)) or lane.committing_s > 0.2)
        assert not lane.commits_slowly  # there is none to compare it with

        lane._recent_s.extend([60.0] * 3)
        assert not lane.commits_slowly
        lane._recent_s.extend([0.001] * 4)
        assert lane.commits_slowly

        goes_on.set()
        lane.finish()
        assert not lane.commits_slowly
    own_topic.assert_everything_stands_once()


@pytest.mark.parametrize(
    ("kind", "commit_bytes", "commit_rows"),
    [(BAD, 8_000, 500_000), (TRADE, 8_000, 500_000), (TRADE, 8_000_000, 25)],
    ids=["bytes rejected", "bytes of silver", "rows"],
)
def test_what_one_reading_makes_is_committed_in_parts(
    own_topic: OwnTopic, monkeypatch: pytest.MonkeyPatch, kind: str, commit_bytes: int, commit_rows: int
) -> None:
    monkeypatch.setattr("k2_assets.drain.topic_lane._COMMIT_BYTES", commit_bytes)
    monkeypatch.setattr("k2_assets.decode.frame_parsing.MOST_ROWS", 10)
    own_topic.produce(40, kinds=(kind,))

    with own_topic.lane(commit_rows=commit_rows) as lane:
        settled = read_all(lane) + lane.finish()

    sizes = [each.batch.bronze.num_rows for each in settled]
    assert sum(sizes) == 40
    assert max(sizes) <= 30
    own_topic.assert_everything_stands_once()
