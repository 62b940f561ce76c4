"""Quotes through a real drain, beside the same venue's trades, with which they share the table of rejected rows."""

import threading
import time
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.expressions import In

from k2_assets.bronze.reconcile import Counts, reconcile_day
from k2_assets.drain.drain_loop import drain
from k2_assets.kafka.schema_lookup import SchemaLookup
from k2_assets.lake import commits
from k2_assets.lake.lake_resource import Lake
from k2_core.registry import Registry
from k2_core.settings import Drain, Kafka, Settings
from k2_core.settings import Registry as RegistrySettings
from tests.assets.own_topic import CONTROL, TRADE, OwnTopic, read_all

pytestmark = pytest.mark.integration

_DAY = date(2024, 8, 9)  # at which topics receive


@pytest.fixture
def trades(broker: str, registry: str, tmp_path: Path) -> OwnTopic:
    return OwnTopic(broker, registry, tmp_path / "home")


@pytest.fixture
def quotes(trades: OwnTopic) -> OwnTopic:
    return OwnTopic(trades.broker, trades.registry_url, trades.home, data="quotes", beside=trades)


def settings_of(own_topic: OwnTopic) -> Settings:
    return Settings(
        home=own_topic.home,
        kafka=Kafka(bootstrap_servers=own_topic.broker),
        registry=RegistrySettings(url=own_topic.registry_url),
        drain=Drain(commit_interval_s=0.1, commit_rows=300, work_minutes=5, beat_interval_s=0.2),
    )


def test_trades_and_quotes_are_drained_side_by_side_bad_ones_among_them(trades: OwnTopic, quotes: OwnTopic) -> None:
    trades.produce(1_500)
    quotes.produce(1_500, seed=1)
    stop, behind = threading.Event(), {trades.topic_name, quotes.topic_name}
    deadline = time.monotonic() + 120  # noqa: TID251
    for lane, _ in drain(Lake(settings_of(trades)), [trades.venue], "both", stop):
        if lane.reader.topic.name in behind and lane.reader.lag(lane.layers.drained) == 0:
            behind.remove(lane.reader.topic.name)
        if not behind:
            stop.set()
        assert time.monotonic() < deadline, behind  # noqa: TID251

    trades.assert_everything_stands_once()
    quotes.assert_everything_stands_once()


def test_a_topic_that_comes_later_is_drained_by_the_same_run_and_until_then_keeps_nobody_from_working(
    trades: OwnTopic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("k2_assets.drain.drain_loop._LOOK_S", 0.5)
    monkeypatch.setattr("k2_assets.drain.drain_loop._Worker._wait_out", fail_at_once)
    trades.produce(200)
    quotes, stop = None, threading.Event()
    deadline = time.monotonic() + 120  # noqa: TID251
    for lane, _ in drain(Lake(settings_of(trades)), [trades.venue], "patient", stop):
        if quotes is None and trades.owns(lane) and lane.reader.lag(lane.layers.drained) == 0:
            quotes = OwnTopic(trades.broker, trades.registry_url, trades.home, data="quotes", beside=trades)
            quotes.produce(200, seed=1)
        if quotes is not None and quotes.owns(lane) and lane.reader.lag(lane.layers.drained) == 0:
            stop.set()
        assert time.monotonic() < deadline, quotes  # noqa: TID251

    assert quotes is not None
    trades.assert_everything_stands_once()
    quotes.assert_everything_stands_once()


def fail_at_once(_: object, error: Exception) -> None:
    raise AssertionError from error


def test_both_lanes_may_commit_their_rejected_rows_at_the_very_same_moment(
    trades: OwnTopic, quotes: OwnTopic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both stage a commit on one state of the table: one is refused, and commits again to the newest state."""
    together, answers, original = threading.Barrier(2), list[bool](), commits.commit_once
    shared = trades.layers.specs["rejected"].name

    def commit_once(transaction: Any) -> bool:
        if transaction._table.name()[-1] != shared:
            return original(transaction)
        if not together.broken and len(answers) < 2:
            together.wait(timeout=60)
        answers.append(original(transaction))
        return answers[-1]

    monkeypatch.setattr(commits, "commit_once", commit_once)
    trades.produce(60)
    quotes.produce(60, seed=1)
    with trades.lane() as one, quotes.lane() as other:
        read_all(one)
        read_all(other)
        for lane in (one, other):
            lane.hand_over()
        for lane in (one, other):
            lane.finish()

    assert answers.count(False) == 1
    trades.assert_everything_stands_once()
    quotes.assert_everything_stands_once()


def test_a_drain_of_quotes_that_ends_in_the_middle_is_made_good_by_the_next(
    quotes: OwnTopic, trades: OwnTopic, monkeypatch: pytest.MonkeyPatch
) -> None:
    trades.produce(30)
    trades.drain()
    quotes.produce(60)
    with monkeypatch.context() as patch:
        patch.setattr("k2_assets.topic_tables.drained_tables.reach", fail_behind(quotes.layers.specs["bronze"].name))
        with pytest.raises(OSError, match="the disk is gone"):
            quotes.drain()

    assert quotes.drain() == []
    quotes.assert_everything_stands_once()
    trades.assert_everything_stands_once()


def fail_behind(table: str) -> Any:
    def reach(point: str) -> None:
        if point == f"{table}.acknowledged":
            raise OSError("the disk is gone")

    return reach


def test_a_day_of_quotes_is_held_against_kafka_and_gets_back_what_is_missing(quotes: OwnTopic) -> None:
    quotes.produce(50, kinds=(TRADE, CONTROL))
    quotes.drain()
    before = quotes.origins("bronze")
    name = quotes.layers.specs["bronze"].name
    quotes.catalog.load_table((quotes.namespace, name)).delete(In("kafka_offset", {0, 3}))
    missing = before - quotes.origins("bronze")

    counts = reconciled(quotes)

    assert counts.added == missing.total() > 0
    assert counts.in_kafka == 50
    assert quotes.origins("bronze") == before
    assert reconciled(quotes).added == 0


def reconciled(own_topic: OwnTopic) -> Counts:
    with Registry(own_topic.registry_url) as registry:
        schemas = SchemaLookup(registry)
        of = {"venue": own_topic.venue, "day": _DAY, "schemas": schemas}
        return reconcile_day(own_topic.catalog, own_topic.namespace, own_topic.broker, **of, data="quotes")  # type: ignore[arg-type]
