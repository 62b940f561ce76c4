"""Accepting what Kafka has deleted before a drain had read it: on a real broker, with real tables."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import fastavro
import pytest
from click.testing import CliRunner, Result
from confluent_kafka import Consumer, TopicPartition

from k2_assets.drain import accept_loss
from k2_assets.drain.drain_loop import drain
from k2_assets.kept_runs.heartbeat import read_beat
from k2_assets.kept_runs.kept_run import kept_drain
from k2_assets.lake.commits import commit_drained
from k2_assets.lake.lake_resource import Lake
from k2_core import topics
from k2_core.errors import CommitConflict
from k2_core.offsets import Offsets
from k2_core.settings import Drain, Kafka, Registry, Settings
from k2_core.venues import VENUES
from k2_feeds.kafka.provision import ensure_topic
from k2_stack.cli import main
from tests.assets.rooms import Room
from tests.reliability.waiting import wait_until

pytestmark = pytest.mark.integration

CUT = 0


@pytest.fixture
def room(broker: str, registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Room:
    made = Room(broker, registry, tmp_path / "home")
    monkeypatch.setitem(VENUES, made.venue.VENUE, made.venue)  # type: ignore[arg-type]  # a dict
    ensure_topic(made.admin, topics.FEED_EVENTS, settings_of(made))
    return made


def settings_of(room: Room) -> Settings:
    return Settings(
        home=room.home,
        kafka=Kafka(bootstrap_servers=room.broker),
        registry=Registry(url=room.registry_url),
        drain=Drain(commit_interval_s=0.1, work_minutes=5, beat_interval_s=0.2),
    )


def cut(room: Room) -> tuple[int, int]:
    """Produce, let Kafka forget all but the last message of a partition, and return the range that nobody has read."""
    committed = dict(room.vectors()[0].items())[room.topic.topic_id, CUT]
    room.produce(90, seed=1)
    kept = max(offset for _, partition, offset in room.produced if partition == CUT)
    room.admin.delete_records([TopicPartition(room.topic_name, CUT, kept)])[
        TopicPartition(room.topic_name, CUT, kept)
    ].result(timeout=30)
    for place in [place for place in room.produced if place[1] == CUT and committed <= place[2] < kept]:
        del room.produced[place]
    return committed, kept


def k2_drain(room: Room, *arguments: str, answer: str | None = None) -> Result:
    environment = {
        "K2_HOME": str(room.home),
        "K2_KAFKA__BOOTSTRAP_SERVERS": room.broker,
        "K2_REGISTRY__URL": room.registry_url,
    }
    return CliRunner().invoke(main, ["drain", "accept-loss", *arguments], input=answer, env=environment)


def recorded(room: Room) -> list[dict[str, object]]:
    """Return the accepted losses of this room's topic that stand in the feed events."""
    consumer = Consumer({"bootstrap.servers": room.broker, "group.id": "a-plain-reader"})
    schema = fastavro.parse_schema(json.loads(topics.feed_event_schema()))
    events = []
    try:
        for partition in range(4):
            place = TopicPartition(topics.FEED_EVENTS, partition, 0)
            _, end = consumer.get_watermark_offsets(place, timeout=30)
            consumer.assign([place])
            at = 0
            while at < end:
                for message in consumer.consume(100, timeout=1):
                    events.append(fastavro.schemaless_reader(BytesIO(message.value()[5:]), schema, None))
                    at = message.offset() + 1
    finally:
        consumer.close()
    return [event for event in events if event["details"].get("topic") == room.topic_name]


def test_an_accepted_loss_is_recorded_and_the_partition_goes_on(room: Room) -> None:
    room.produce(90)
    room.drain()
    first, kept = cut(room)

    done = k2_drain(room, room.topic_name, str(CUT), "--yes")

    assert done.exit_code == 0, done.output
    assert f"{kept - first:,} messages are lost: offsets {first} to {kept - 1} of {room.topic_name}" in done.output
    for vector in room.vectors():
        assert vector.get(room.topic.topic_id, CUT) == kept
    (event,) = recorded(room)
    assert (event["kind"], event["venue"]) == ("loss_accepted", room.venue.VENUE)
    assert event["details"] == {
        "topic": room.topic_name,
        "topic_id": room.topic.topic_id,
        "partition": str(CUT),
        "first_lost_offset": str(first),
        "next_kept_offset": str(kept),
        "messages": str(kept - first),
    }
    room.drain()
    room.assert_everything_stands_once()


def test_a_loss_of_quotes_is_accepted_as_one_of_trades_is(room: Room) -> None:
    quotes = Room(room.broker, room.registry_url, room.home, data="quotes", beside=room)
    quotes.produce(90)
    quotes.drain()
    first, kept = cut(quotes)

    done = k2_drain(quotes, quotes.topic_name, str(CUT), "--yes")

    assert done.exit_code == 0, done.output
    assert f"_quotes, silver_{room.venue.VENUE}_rejected, silver_{room.venue.VENUE}_quotes" in done.output
    (event,) = recorded(quotes)
    assert (event["venue"], event["details"]["first_lost_offset"]) == (room.venue.VENUE, str(first))  # type: ignore[index]
    assert {vector.get(quotes.topic.topic_id, CUT) for vector in quotes.vectors()} == {kept}
    quotes.drain()
    quotes.assert_everything_stands_once()


def test_nothing_moves_when_the_question_is_answered_with_no(room: Room) -> None:
    room.produce(60)
    room.drain()
    before = room.vectors()
    cut(room)

    done = k2_drain(room, room.topic_name, str(CUT), answer="n\n")

    assert done.exit_code == 1
    assert "Go on without them?" in done.output
    assert room.vectors() == before
    assert recorded(room) == []


def test_a_loss_is_refused_while_kafka_has_the_next_message(room: Room) -> None:
    refused = k2_drain(room, room.topic_name, str(CUT), "--yes")
    assert "nothing of it was committed yet" in refused.output

    room.produce(60)
    room.drain()
    room.produce(60, seed=1)

    refused = k2_drain(room, room.topic_name, str(CUT), "--yes")

    assert refused.exit_code == 1
    assert "there is nothing to accept" in refused.output
    assert recorded(room) == []
    assert "has no partition 77" in k2_drain(room, room.topic_name, "77", "--yes").output
    assert "no drain reads a topic nobody.reads" in k2_drain(room, "nobody.reads", "0", "--yes").output


def test_an_offset_beyond_kafkas_log_stops_the_partition_and_is_no_loss_to_accept(room: Room) -> None:
    """As after the loss of a disk: the lake has what Kafka has lost, and Kafka gives the offsets away again."""
    room.produce(60)
    room.drain()
    key = (room.topic.topic_id, CUT)
    for layer, vector in zip(room.layers.specs, room.vectors(), strict=True):
        table = room.catalog.load_table((room.namespace, room.layers.specs[layer].name))
        ahead = Offsets({key: (vector.get(*key) or 0) + 1_000})
        commit_drained(table, room.layers.schemas[layer].empty_table(), vector.only({key}), ahead)
    before = room.vectors()

    refused = k2_drain(room, room.topic_name, str(CUT), "--yes")
    settings, stop = settings_of(room), threading.Event()
    with draining(room, settings, stop):
        store = kept_drain(settings).store
        wait_until(lambda: "Kafka has lost its newest messages" in str(read_beat(store, "main")), str)

    assert refused.exit_code == 1
    assert "Kafka has lost its newest messages, which the lake has" in refused.output
    assert room.vectors() == before
    assert recorded(room) == []


@pytest.mark.parametrize("layer", ["rejected", "silver"])
def test_an_acceptance_that_is_killed_between_two_tables_is_made_good_by_the_next_drain(
    room: Room, monkeypatch: pytest.MonkeyPatch, layer: str
) -> None:
    room.produce(90)
    room.drain()
    cut(room)
    point = f"{room.layers.specs[layer].name}.accept_loss"

    def die(reached: str) -> None:
        if reached == point:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(accept_loss, "reach", die)
        k2_drain(room, room.topic_name, str(CUT), "--yes")
    bronze, *_, silver = room.vectors()
    assert bronze != silver

    room.drain()
    room.assert_everything_stands_once()


def test_a_table_that_is_behind_bronze_is_left_to_the_drain(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    room.produce(60)
    room.drain()
    room.produce(30, seed=2)

    def interrupted(point: str) -> None:
        raise CommitConflict(point)

    with monkeypatch.context() as patch:
        patch.setattr("k2_assets.topic_tables.drained_tables.reach", interrupted)
        with pytest.raises(CommitConflict):
            room.drain()  # bronze alone
    cut(room)

    done = k2_drain(room, room.topic_name, str(CUT), "--yes")

    assert f"moved on: {room.layers.specs['bronze'].name}." in done.output
    room.drain()
    room.assert_everything_stands_once()


def test_a_drain_that_runs_goes_on_by_itself(room: Room) -> None:
    room.produce(90)
    room.drain()
    _, kept = cut(room)
    settings, stop = settings_of(room), threading.Event()

    def said() -> str:
        beat = read_beat(kept_drain(settings).store, "main")
        return beat.detail if beat else ""

    with draining(room, settings, stop):
        wait_until(lambda: f"k2 drain accept-loss {room.topic_name} {CUT}" in said(), said)
        assert k2_drain(room, room.topic_name, str(CUT), "--yes").exit_code == 0
        wait_until(lambda: room.vectors()[2].get(room.topic.topic_id, CUT) == kept + 1, room.vectors)
        wait_until(lambda: said() == "", said)
    room.assert_everything_stands_once()


@contextmanager
def draining(room: Room, settings: Settings, stop: threading.Event) -> Iterator[None]:
    """Drain in a thread while the block runs."""
    thread = threading.Thread(target=lambda: list(drain(Lake(settings), [room.venue], "a-run", stop)))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
