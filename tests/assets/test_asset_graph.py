"""The asset graph, pinned: keys, sources, groups, partitions, automation and checks."""

from pathlib import Path

import dagster as dg
import pytest

from k2_assets.definitions import build_definitions
from k2_assets.partitions import DAILY
from k2_core.settings import Settings

TOPIC = "kafka/market_crypto_trades_binance_raw"
REGISTER = "reference_instruments"
GRAPH = {
    TOPIC: ("bronze", set(), set()),
    "bronze_binance_trades": ("bronze", {TOPIC}, set()),
    "silver_binance_rejected": ("silver", {"bronze_binance_trades"}, set()),
    "silver_binance_trades": ("silver", {"bronze_binance_trades"}, {"schema_and_ranges"}),
    REGISTER: ("reference", set(), {"one_version_at_a_time"}),
    "gold_crypto_trades": ("gold", {"silver_binance_trades"}, {"unique_message_id"}),
    "gold_ohlcv_1m": ("gold", {"gold_crypto_trades"}, {"candle_invariants"}),
}
AUTOMATED = {"gold_crypto_trades", "gold_ohlcv_1m"}


@pytest.fixture(name="definitions")
def a_code_location(tmp_path: Path) -> dg.Definitions:
    return build_definitions(Settings(home=tmp_path))


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
        if key.to_user_string() != TOPIC:
            assert node.partitions_def == (None if key.to_user_string() == REGISTER else DAILY)
            assert "dagster/column_schema" in node.metadata
        assert (node.automation_condition is not None) == (key.to_user_string() in AUTOMATED)
        assert (node.freshness_policy is not None) == (key.to_user_string() in {REGISTER, *AUTOMATED})


def test_every_sensor_runs_from_the_start(definitions: dg.Definitions) -> None:
    sensors = {each.name: each.default_status for each in definitions.get_repository_def().sensor_defs}
    assert sensors == dict.fromkeys(
        ("main_feed_sensor", "gold_backlog_sensor", "gold_automation", "register_sensor"),
        dg.DefaultSensorStatus.RUNNING,
    )
