"""The asset graph, pinned: keys, sources, groups, partitions, freshness and checks."""

from datetime import date
from pathlib import Path

import dagster as dg
import pytest

from k2_api.app import create_app
from k2_assets.alerts.alerts_sensor import NAME
from k2_assets.build_definitions import build_definitions
from k2_assets.orchestration.daily_partitions import daily
from k2_core.lake.tables import CANDLES, DATA, GOLD_TABLES, all_tables
from k2_core.settings import Settings
from k2_core.timeframes import TIMEFRAMES
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
        **{topic(venue, data): ("kafka", set(), set()) for data in DATA},
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
    EVENTS: ("kafka", set(), set()),
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
    **{f"rest/v1/{name}": ("api", {"gold_crypto_trades"}, set()) for name in ("trades", "symbols")},
    "rest/v1/quotes": ("api", {"gold_crypto_quotes"}, set()),
    **{
        f"rest/v1/ohlcv/{timeframe.name}": ("api", {f"gold_ohlcv_{timeframe.name}", "gold_crypto_trades"}, set())
        for timeframe in TIMEFRAMES
    },
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


def test_every_asset_is_described_owned_tagged_and_shows_its_code(definitions: dg.Definitions) -> None:
    graph = definitions.get_repository_def().asset_graph
    for key in graph.get_all_asset_keys():
        node = graph.get(key)
        assert node.description
        assert node.owners
        assert node.kinds
        assert node.group_name in {"kafka", "bronze", "silver", "gold", "reference", "api", "maintenance"}
        assert node.tags["layer"] == node.group_name
        assert node.tags["data"]
        if "binance" in key.to_user_string():
            assert node.tags["venue"] == "binance"
        if node.group_name != "api":
            (place,) = node.metadata["dagster/code_references"].code_references
            assert Path(place.file_path).read_text().splitlines()[place.line_number - 1].lstrip().startswith("def ")


def test_every_table_is_partitioned_by_day_and_fresh_where_a_kept_run_reports_it(definitions: dg.Definitions) -> None:
    graph = definitions.get_repository_def().asset_graph
    silver = {f"silver_{venue}_{data}" for venue in VENUES for data in DATA}
    for key in graph.get_all_asset_keys():
        node, name = graph.get(key), key.to_user_string()
        if node.group_name not in {"kafka", "api", "maintenance"}:
            assert node.partitions_def == (None if name == REGISTER else daily(FIRST))
            assert "dagster/column_schema" in node.metadata
        assert node.automation_condition is None
        assert (node.freshness_policy is not None) == (name in {REGISTER, *silver, *GOLD_TABLES})
        assert node.freshness_policy is None or name == REGISTER or "Fresh: " in (node.description or "")


def test_every_derived_column_names_columns_that_there_are(definitions: dg.Definitions) -> None:
    graph = definitions.get_repository_def().asset_graph
    specs = {spec.name: spec for spec in all_tables(tuple(VENUES)) if spec.made_from}
    columns = {spec.name: {each.name for each in spec.columns} for spec in all_tables(tuple(VENUES))}
    shown = {key.to_user_string(): graph.get(key).metadata for key in graph.get_all_asset_keys()}
    for name, spec in specs.items():
        lineage = shown[name]["dagster/column_lineage"].deps_by_column
        assert set(lineage) == columns[name]
        for column, sources in lineage.items():
            assert bool(sources) == (column not in {"created_at", "updated_at"}), (name, column)
            assert {source.asset_key.to_user_string() for source in sources} <= set(spec.made_from)
            for source in sources:
                assert source.column_name in columns[source.asset_key.to_user_string()]


def test_lineage_of_columns_that_are_computed_is_in_their_descriptions(definitions: dg.Definitions) -> None:
    graph = definitions.get_repository_def().asset_graph
    schema = graph.get(dg.AssetKey("gold_ohlcv_1m")).metadata["dagster/column_schema"]
    (vwap,) = (column.description for column in schema.columns if column.name == "vwap")
    assert vwap is not None
    assert vwap.endswith(" (from price, quantity)")


# The register of instruments is no gold, and the other two count rows.
OF_NO_GOLD = {"/v1/instruments", "/v1/stats", "/v1/snapshots"}


def test_every_route_that_serves_rows_has_its_box(definitions: dg.Definitions, tmp_path: Path) -> None:
    served = set()
    for path, operations in create_app(Settings(home=tmp_path)).openapi()["paths"].items():
        if path.startswith("/v1/") and "get" in operations and path not in OF_NO_GOLD:
            parameters = operations["get"]["parameters"]
            intervals = [each["schema"] for each in parameters if each["name"] == "interval"]
            names = [None] if not intervals else [timeframe.name for timeframe in TIMEFRAMES]
            served |= {"rest" + (path.replace("{interval}", name) if name else path) for name in names}
    keys = definitions.get_repository_def().asset_graph.get_all_asset_keys()
    assert {key.to_user_string() for key in keys if key.path[0] == "rest"} == served


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
