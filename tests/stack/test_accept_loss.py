"""Accepting what Kafka has deleted before a drain had read it: on a real broker, with real tables."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import click
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
from k2_core.errors import CommitConflict, K2Error
from k2_core.offsets import Offsets
from k2_core.settings import Drain, Kafka, Registry, Settings
from k2_feeds.kafka.provision import ensure_topic
from k2_stack.cli import main
from k2_stack.lost_messages import step_over
from tests.assets.own_topic import OwnTopic
from tests.reliability.waiting import wait_until

pytestmark = pytest.mark.integration

CUT = 0


@pytest.fixture
def own_topic(broker: str, registry: str, tmp_path: Path) -> OwnTopic:
    made = OwnTopic(broker, registry, tmp_path / "home")
    ensure_topic(made.admin, topics.FEED_EVENTS, settings_of(made))
    return made


def settings_of(own_topic: OwnTopic) -> Settings:
    return Settings(
        home=own_topic.home,
        kafka=Kafka(bootstrap_servers=own_topic.broker),
        registry=Registry(url=own_topic.registry_url),
        drain=Drain(commit_interval_s=0.1, work_minutes=5, beat_interval_s=0.2),
    )


def cut(own_topic: OwnTopic) -> tuple[int, int]:
    """Produce, let Kafka forget all but the last message of a partition, and return the range that nobody has read."""
    committed = dict(own_topic.vectors()[0].items())[own_topic.described.topic_id, CUT]
    own_topic.produce(90, seed=1)
    kept = max(offset for _, partition, offset in own_topic.produced if partition == CUT)
    own_topic.admin.delete_records([TopicPartition(own_topic.topic_name, CUT, kept)])[
        TopicPartition(own_topic.topic_name, CUT, kept)
    ].result(timeout=30)
    for place in [place for place in own_topic.produced if place[1] == CUT and committed <= place[2] < kept]:
        del own_topic.produced[place]
    return committed, kept


def accept(own_topic: OwnTopic, partition: int = CUT, *, answer: str | None = None) -> Result:
    """Do what ``k2 drain accept-loss`` does, for the venue of ``own_topic``; it asks if there is an answer."""

    @click.command
    def command() -> None:
        try:
            topic, ask = own_topic.topic_name, answer is not None
            step_over(settings_of(own_topic), [own_topic.venue], topic, partition, ask=ask)
        except K2Error as error:
            raise click.ClickException(str(error)) from error

    return CliRunner().invoke(command, [], input=answer)


def recorded(own_topic: OwnTopic) -> list[dict[str, object]]:
    """Return the accepted losses of this topic that stand in the feed events."""
    consumer = Consumer({"bootstrap.servers": own_topic.broker, "group.id": "a-plain-reader"})
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
    return [event for event in events if event["details"].get("topic") == own_topic.topic_name]


def test_an_accepted_loss_is_recorded_and_the_partition_goes_on(own_topic: OwnTopic) -> None:
    own_topic.produce(90)
    own_topic.drain()
    first, kept = cut(own_topic)

    done = accept(own_topic)

    assert done.exit_code == 0, done.output
    assert f"{kept - first:,} messages are lost: offsets {first} to {kept - 1} of {own_topic.topic_name}" in done.output
    for vector in own_topic.vectors():
        assert vector.get(own_topic.described.topic_id, CUT) == kept
    (event,) = recorded(own_topic)
    assert (event["kind"], event["venue"]) == ("loss_accepted", own_topic.venue.VENUE)
    assert event["details"] == {
        "topic": own_topic.topic_name,
        "topic_id": own_topic.described.topic_id,
        "partition": str(CUT),
        "first_lost_offset": str(first),
        "next_kept_offset": str(kept),
        "messages": str(kept - first),
    }
    own_topic.drain()
    own_topic.assert_everything_stands_once()


def test_a_loss_of_quotes_is_accepted_as_one_of_trades_is(own_topic: OwnTopic) -> None:
    quotes = OwnTopic(own_topic.broker, own_topic.registry_url, own_topic.home, data="quotes", beside=own_topic)
    quotes.produce(90)
    quotes.drain()
    first, kept = cut(quotes)

    done = accept(quotes)

    assert done.exit_code == 0, done.output
    assert f"_quotes, silver_{own_topic.venue.VENUE}_rejected, silver_{own_topic.venue.VENUE}_quotes" in done.output
    (event,) = recorded(quotes)
    assert (event["venue"], event["details"]["first_lost_offset"]) == (own_topic.venue.VENUE, str(first))  # type: ignore[index]
    assert {vector.get(quotes.described.topic_id, CUT) for vector in quotes.vectors()} == {kept}
    quotes.drain()
    quotes.assert_everything_stands_once()


def test_nothing_moves_when_the_question_is_answered_with_no(own_topic: OwnTopic) -> None:
    own_topic.produce(60)
    own_topic.drain()
    before = own_topic.vectors()
    cut(own_topic)

    done = accept(own_topic, answer="n\n")

    assert done.exit_code == 1
    assert "Go on without them?" in done.output
    assert own_topic.vectors() == before
    assert recorded(own_topic) == []


def test_a_loss_is_refused_while_kafka_has_the_next_message(own_topic: OwnTopic) -> None:
    refused = accept(own_topic)
    assert "nothing of it was committed yet" in refused.output

    own_topic.produce(60)
    own_topic.drain()
    own_topic.produce(60, seed=1)

    refused = accept(own_topic)

    assert refused.exit_code == 1
    assert "there is nothing to accept" in refused.output
    assert recorded(own_topic) == []
    assert "has no partition 77" in accept(own_topic, 77).output


def test_the_command_knows_the_topics_that_drains_read(own_topic: OwnTopic) -> None:
    environment = {"K2_HOME": str(own_topic.home), "K2_KAFKA__BOOTSTRAP_SERVERS": own_topic.broker}
    refused = CliRunner().invoke(main, ["drain", "accept-loss", "nobody.reads", "0", "--yes"], env=environment)

    assert refused.exit_code == 1
    assert "k2: no drain reads a topic nobody.reads: there is market." in refused.output
    assert topics.raw_topic("crypto", "trades", "binance") in refused.output


def test_an_offset_beyond_kafkas_log_stops_the_partition_and_is_no_loss_to_accept(own_topic: OwnTopic) -> None:
    """As after the loss of a disk: the lake has what Kafka has lost, and Kafka gives the offsets away again."""
    own_topic.produce(60)
    own_topic.drain()
    key = (own_topic.described.topic_id, CUT)
    for layer, vector in zip(own_topic.layers.specs, own_topic.vectors(), strict=True):
        table = own_topic.catalog.load_table((own_topic.namespace, own_topic.layers.specs[layer].name))
        ahead = Offsets({key: (vector.get(*key) or 0) + 1_000})
        commit_drained(table, own_topic.layers.schemas[layer].empty_table(), vector.only({key}), ahead)
    before = own_topic.vectors()

    refused = accept(own_topic)
    settings, stop = settings_of(own_topic), threading.Event()
    with draining(own_topic, settings, stop):
        store = kept_drain(settings).store
        wait_until(lambda: "Kafka has lost its newest messages" in str(read_beat(store, "main")), str)

    assert refused.exit_code == 1
    assert "Kafka has lost its newest messages, which the lake has" in refused.output
    assert own_topic.vectors() == before
    assert recorded(own_topic) == []


@pytest.mark.parametrize("layer", ["rejected", "silver"])
def test_an_acceptance_that_is_killed_between_two_tables_is_made_good_by_the_next_drain(
    own_topic: OwnTopic, monkeypatch: pytest.MonkeyPatch, layer: str
) -> None:
    own_topic.produce(90)
    own_topic.drain()
    cut(own_topic)
    point = f"{own_topic.layers.specs[layer].name}.accept_loss"

    def die(reached: str) -> None:
        if reached == point:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(accept_loss, "reach", die)
        accept(own_topic)
    bronze, *_, silver = own_topic.vectors()
    assert bronze != silver

    own_topic.drain()
    own_topic.assert_everything_stands_once()


def test_a_table_that_is_behind_bronze_is_left_to_the_drain(
    own_topic: OwnTopic, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_topic.produce(60)
    own_topic.drain()
    own_topic.produce(30, seed=2)

    def interrupted(point: str) -> None:
        raise CommitConflict(point)

    with monkeypatch.context() as patch:
        patch.setattr("k2_assets.topic_tables.drained_tables.reach", interrupted)
        with pytest.raises(CommitConflict):
            own_topic.drain()  # bronze alone
    cut(own_topic)

    done = accept(own_topic)

    assert f"moved on: {own_topic.layers.specs['bronze'].name}." in done.output
    own_topic.drain()
    own_topic.assert_everything_stands_once()


def test_a_drain_that_runs_goes_on_by_itself(own_topic: OwnTopic) -> None:
    own_topic.produce(90)
    own_topic.drain()
    _, kept = cut(own_topic)
    settings, stop = settings_of(own_topic), threading.Event()

    def said() -> str:
        beat = read_beat(kept_drain(settings).store, "main")
        return beat.detail if beat else ""

    with draining(own_topic, settings, stop):
        wait_until(lambda: f"k2 drain accept-loss {own_topic.topic_name} {CUT}" in said(), said)
        assert accept(own_topic).exit_code == 0
        wait_until(lambda: own_topic.vectors()[2].get(own_topic.described.topic_id, CUT) == kept + 1, own_topic.vectors)
        wait_until(lambda: said() == "", said)
    own_topic.assert_everything_stands_once()


@contextmanager
def draining(own_topic: OwnTopic, settings: Settings, stop: threading.Event) -> Iterator[None]:
    """Drain in a thread while the block runs."""
    thread = threading.Thread(target=lambda: list(drain(Lake(settings), [own_topic.venue], "a-run", stop)))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
