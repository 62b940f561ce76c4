"""The asset graph, pinned: keys, sources, groups, partitions, freshness and checks."""

from datetime import date
from pathlib import Path

import dagster as dg
import pytest

from k2_assets.alerts.alerts_sensor import NAME
from k2_assets.build_definitions import build_definitions
from k2_assets.orchestration.daily_partitions import daily
from k2_core.lake.tables import CANDLES, DATA, GOLD_TABLES
from k2_core.settings import Settings
from k2_core.venues import VENUES

FIRST = date(2024, 8, 9)
REGISTER = "reference_instruments"
RETENTION = "retention"
SILVER_CHECKS = {"schema_and_ranges", "reject_rate", "same_as_bronze"}
EVENTS = "kafka/market_feed_events"


def topic(venue: str, data: str) -> str:
    return f"kafka/market_crypto_{data}_{venue}_raw"


def graph_of(venue: str) -> dict[str, tuple[str, set[str], set[str]]]:
    bronze = {f"bronze_{venue}_{data}" for data in DATA}
    return {
        **{topic(venue, data): ("bronze", set(), set()) for data in DATA},
        **{f"bronze_{venue}_{data}": ("bronze", {topic(venue, data)}, {"same_as_kafka"}) for data in DATA},
        **{
            f"silver_{venue}_{data}": (
                "silver",
                {f"bronze_{venue}_{data}"},
                SILVER_CHECKS,
            )
            for data in DATA
        },
        f"silver_{venue}_rejected": ("silver", bronze, set()),
    }


GRAPH = {
    **{key: node for venue in VENUES for key, node in graph_of(venue).items()},
    EVENTS: ("bronze", set(), set()),
    "bronze_feed_events": ("bronze", {EVENTS}, set()),
    RETENTION: ("maintenance", set(), set()),
    REGISTER: ("reference", set(), {"one_version_at_a_time"}),
    "gold_crypto_trades": (
        "gold",
        {f"silver_{venue}_trades" for venue in VENUES},
        {
            *("fit_for_candles", "ids_go_on", "unique_message_id", "contiguous_ids", "price_jumps", "inside_spread"),
            *("stale_symbols", "event_time_lag", "clock_skew", "same_as_silver"),
        },
    ),
    "gold_crypto_quotes": (
        "gold",
        {f"silver_{venue}_quotes" for venue in VENUES},
        {"unique_message_id", "bid_not_above_ask", "same_as_silver"},
    ),
    **{
        spec.name: (
            "gold",
            set(spec.made_from),
            {
                *("candle_invariants", "complete_candles", "equal_to_trades", "same_as_trades"),
                *(["same_as_venue"] if spec == CANDLES[0] else []),
            },
        )
        for spec in CANDLES
    },
}


@pytest.fixture(name="definitions")
def a_code_location(tmp_path: Path) -> dg.Definitions:
    return build_definitions(Settings(home=tmp_path), FIRST)


def test_graph_is_what_the_architecture_says(definitions: dg.Definitions) -> None:
    graph = definitions.get_repository_def().asset_graph
    found = {
        key.to_user_string(): (
            graph.get(key).group_name,
            {parent.to_user_string() for parent in graph.get(key).parent_keys},
            {check.name for check in graph.get_check_keys_for_assets({key})},
        )
        for key in graph.get_all_asset_keys()
    }
    assert found == GRAPH


def test_every_table_is_partitioned_by_day_described_and_owned(definitions: dg.Definitions) -> None:
    graph = definitions.get_repository_def().asset_graph
    for key in graph.get_all_asset_keys():
        node = graph.get(key)
        assert node.description
        assert node.owners
        assert node.kinds
        if "kafka" not in node.kinds and key.to_user_string() != RETENTION:
            assert node.partitions_def == (None if key.to_user_string() == REGISTER else daily(FIRST))
            assert "dagster/column_schema" in node.metadata
        assert node.automation_condition is None
        assert (node.freshness_policy is not None) == (key.to_user_string() in {REGISTER, *GOLD_TABLES})


def test_every_table_of_gold_is_an_asset(definitions: dg.Definitions) -> None:
    graph = definitions.get_repository_def().asset_graph
    gold = {key.to_user_string() for key in graph.get_all_asset_keys() if graph.get(key).group_name == "gold"}
    assert set(GOLD_TABLES) == gold


def test_every_sensor_runs_from_the_start(definitions: dg.Definitions) -> None:
    sensors = {each.name: each.default_status for each in definitions.get_repository_def().sensor_defs}
    assert sensors == dict.fromkeys(
        ("main_feed_sensor", "refine_sensor", "epochs_sensor", "register_sensor", "first_partition_sensor", NAME),
        dg.DefaultSensorStatus.RUNNING,
    )
