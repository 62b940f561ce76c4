"""What a drain reports of a small lake: how far it is in Kafka, and how the days of its tables are."""

from types import SimpleNamespace
from typing import Any, cast

import dagster as dg
import pytest
from confluent_kafka import KafkaException
from dagster._serdes import serialize_value

from k2_assets.drain.drain_report import Reporter
from k2_assets.drain.topic_lane import Committed, Lane
from k2_assets.kafka.topic_reader import Messages
from k2_assets.topic_tables.drained_tables import Batch, Rows
from k2_assets.topic_tables.event_tables import EventLayers
from k2_assets.topic_tables.frame_tables import Layers
from k2_core.offsets import Offsets
from k2_core.venues import binance
from tests.assets.drained import KnownSchemas, at
from tests.assets.frames import NOON_MS, TOPIC
from tests.assets.lakes import DAY, SmallLake

MOST_BYTES = 4096
TRADES_TOPIC = "kafka/" + TOPIC.name.replace(".", "_")
BRONZE, SILVER, REJECTED = "bronze_binance_trades", "silver_binance_trades", "silver_binance_rejected"


class ALane:
    """A lane whose messages come from the test, over the real tables of a lake."""

    def __init__(self, lake: SmallLake, lag: int | None = 0) -> None:
        self.layers = Layers(lake.catalog, lake.namespace, binance, "trades")
        self.waiting = lag
        self.reader = SimpleNamespace(topic=TOPIC, lag=self.lag)

    def lag(self, _: Offsets) -> int:
        if self.waiting is None:
            raise KafkaException
        return self.waiting

    def commit(self, *values: bytes) -> Committed:
        first = self.layers.vector("bronze").get(TOPIC.topic_id, 0) or 0
        offsets, times = list(range(first, first + len(values))), [NOON_MS] * len(values)
        read = Messages([0] * len(values), offsets, times, [b"BTCUSDT"] * len(values), list(values))
        rows = Rows.joined(list(self.layers.rows_of(read, TOPIC, KnownSchemas())))
        batch = Batch(Offsets({(TOPIC.topic_id, 0): first} if first else {}), read.following(TOPIC.topic_id), rows)
        return Committed(self.layers.commit(batch), 0.5)


def reported(reporter: Reporter, **how: bool) -> dict[str, dict[str, Any]]:
    events = [each for each in reporter.due(**how) if isinstance(each, dg.AssetMaterialization)]
    assert all(len(serialize_value(each)) < MOST_BYTES for each in events)
    assert {each.partition for each in events} <= {None, DAY.isoformat()}
    return {
        each.asset_key.to_user_string(): {name: value.value for name, value in each.metadata.items()} for each in events
    }


def add(reporter: Reporter, lane: ALane, *values: bytes) -> None:
    reporter.see(cast(Lane, lane))
    reporter.add(cast(Lane, lane), lane.commit(*values))


def test_a_report_shows_the_batch_the_whole_day_and_the_place_in_kafka(lake: SmallLake) -> None:
    lane, reporter = ALane(lake, lag=7), Reporter(0)
    add(reporter, lane, at(NOON_MS, 1), at(NOON_MS + 1000, 2))
    reported(reporter)
    add(reporter, lane, at(NOON_MS + 2000, 3), b"no envelope")

    shown = reported(reporter)

    offsets = {f"{TOPIC.name}-0": 4}
    assert shown[TRADES_TOPIC] == {"messages read": 2, "offsets": offsets, "lag (messages)": 7}
    for table, batch, day in ((BRONZE, 2, 4), (SILVER, 1, 3)):
        assert shown[table]["rows"] == batch
        assert shown[table]["dagster/partition_row_count"] == day
        assert shown[table]["files of the day"] == 2
        assert shown[table]["bytes of the day"] > 1000
        assert shown[table]["newest row"] == (NOON_MS + 2000) / 1000
    assert shown[BRONZE]["offsets"] == offsets
    assert shown[BRONZE]["lag (messages)"] == 7
    assert shown[SILVER]["newest trade"] == (NOON_MS + 2000) / 1000


def test_a_quiet_topic_is_reported_only_while_kafka_has_no_more(lake: SmallLake) -> None:
    lane, reporter = ALane(lake), Reporter(0)
    reporter.see(cast(Lane, lane))
    assert set(reported(reporter)) == {TRADES_TOPIC}, "no table has a day yet"
    add(reporter, lane, at(NOON_MS, 1))
    reported(reporter)
    results = [each for each in reporter.due() if isinstance(each, dg.AssetCheckEvaluation)]
    assert [(each.partition, each.passed) for each in results] == [(DAY.isoformat(), True)], "newer than the report"

    shown = reported(reporter)
    assert set(shown) == {TRADES_TOPIC, BRONZE, SILVER}
    assert shown[SILVER]["rows"] == 0
    assert shown[SILVER]["dagster/partition_row_count"] == 1
    lane.waiting = 5
    assert reported(reporter) == {}
    lane.waiting = None
    assert reported(reporter) == {}
    lane.waiting = 0
    assert reported(reporter, now=True) == {}, "a run that ends has reported what it did"


def test_rejected_is_reported_once_in_a_run_though_nothing_more_is_rejected(lake: SmallLake) -> None:
    lane = ALane(lake)
    add(Reporter(0), lane, at(NOON_MS, 1), at(NOON_MS, 2, p="-1"))

    reporter = Reporter(0)
    add(reporter, lane, at(NOON_MS, 3))

    assert reported(reporter)[REJECTED]["dagster/partition_row_count"] == 1
    assert REJECTED not in reported(reporter)


def test_a_venue_of_which_nothing_was_ever_rejected_is_reported_so(lake: SmallLake) -> None:
    lane, reporter = ALane(lake), Reporter(0)
    add(reporter, lane, at(NOON_MS, 1))

    assert reported(reporter)[REJECTED] == {
        "rows": 0,
        "dagster/partition_row_count": 0,
        "files of the day": 0,
        "bytes of the day": 0,
        "rejected by reason": {},
    }


def test_tables_that_cannot_be_read_end_no_run(lake: SmallLake, monkeypatch: pytest.MonkeyPatch) -> None:
    lane, reporter = ALane(lake), Reporter(0)
    add(reporter, lane, at(NOON_MS, 1))
    monkeypatch.setattr(lane.layers, "files", lambda *_: 1 / 0)

    assert reported(reporter)[SILVER]["rows"] == 1


def test_a_quiet_topic_does_not_keep_the_others_waiting_for_their_first_report(lake: SmallLake) -> None:
    lane, reporter = ALane(lake), Reporter(3600)
    quiet = SimpleNamespace(layers=EventLayers(lake.catalog, lake.namespace), reader=lane.reader)
    reporter.see(cast(Lane, quiet))
    reporter.see(cast(Lane, lane))
    assert reported(reporter) == {}

    add(reporter, lane, at(NOON_MS, 1))
    assert set(reported(reporter)) == {TRADES_TOPIC, BRONZE, SILVER, REJECTED}
    add(reporter, lane, at(NOON_MS, 2))
    assert reported(reporter) == {}
    assert set(reported(reporter, now=True)) == {TRADES_TOPIC, BRONZE, SILVER}
