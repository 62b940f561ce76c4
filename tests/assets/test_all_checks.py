"""All checks together: each has its section in docs/checks.md, and one run finds all that is bad in a lake."""

import re
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import pytest

from k2_assets.build_definitions import build_definitions
from k2_assets.gold.checks import GOLD_CHECKS
from k2_assets.gold.gold_balance import GOLD_BALANCES
from k2_assets.lake.lake_resource import Lake
from k2_assets.orchestration.balance_check import duckdb_resource
from k2_assets.orchestration.daily_partitions import daily
from k2_assets.orchestration.run_tags import PARTITION_TAG
from k2_assets.silver.checks import reject_rate_check, silver_balance, silver_check
from k2_core.lake.tables import CANDLES, GOLD_QUOTES, GOLD_TRADES
from k2_core.settings import Settings
from k2_core.venues import binance
from tests.assets.drained import BRONZE, SILVER, DrainedLake, at
from tests.assets.frames import NOON_MS
from tests.assets.lakes import DAY, SILVER_QUOTES, a_quote, a_trade, trades_of

MINUTES, HOURS = CANDLES[0], CANDLES[4]  # the other timeframes have the same checks
GOLD = [each.name for each in (GOLD_TRADES, GOLD_QUOTES, MINUTES, HOURS)]
OF_GOLD = [each for each in (*GOLD_CHECKS, *GOLD_BALANCES) if each.table in GOLD]
PAGE = Path(__file__).parents[2] / "docs" / "checks.md"


@pytest.fixture(name="lake")
def a_drained_lake(tmp_path: Path) -> Iterator[DrainedLake]:
    made = DrainedLake(tmp_path / "home")
    yield made
    made.catalog.close()


def test_every_check_has_its_section_and_no_section_is_of_none(tmp_path: Path) -> None:
    graph = build_definitions(Settings(home=tmp_path), date(2024, 8, 9)).get_repository_def().asset_graph
    sections = re.findall(r"^## (\w+)$", PAGE.read_text(), re.MULTILINE)
    assert sorted(sections) == sorted({key.name for key in graph.asset_check_keys})
    assert all(f"(#{name})" in PAGE.read_text() for name in sections)


def judged(lake: DrainedLake) -> dict[tuple[str, str], dg.AssetCheckEvaluation]:
    """Evaluate every check of Binance's silver and of gold in one run."""
    days = daily(DAY)
    checks = [
        *(silver_check(binance, data, days) for data in ("trades", "quotes")),
        *(reject_rate_check(binance, data, days) for data in ("trades", "quotes")),
        *(silver_balance(binance, data).definition(days) for data in ("trades", "quotes")),
        *(each.definition(days) for each in OF_GOLD),
    ]
    tables = [SILVER.name, SILVER_QUOTES.name, *GOLD]
    definitions = dg.Definitions(
        assets=[dg.AssetSpec(name, partitions_def=days) for name in tables],
        asset_checks=checks,
        jobs=[dg.define_asset_job("judge", dg.AssetSelection.checks(*checks))],
        resources={"lake": Lake(lake.settings), "duckdb": duckdb_resource(lake.settings)},
        executor=dg.in_process_executor,
    )
    with dg.DagsterInstance.ephemeral() as instance:
        job = definitions.resolve_job_def("judge")
        run = job.execute_in_process(instance=instance, tags={PARTITION_TAG: DAY.isoformat()}, raise_on_error=False)
        found = run.get_asset_check_evaluations()
    return {(each.asset_key.to_user_string(), each.check_name): each for each in found}


def fill(lake: DrainedLake) -> None:
    """Two minutes of good trades and quotes, and their candles."""
    lake.drain(*(at(NOON_MS + 1000 * n, n + 1) for n in range(120)))
    lake.append(SILVER_QUOTES, [a_quote(n, n, bid="61837.62", ask="61837.64", kafka_topic="none") for n in range(120)])
    refresh(lake)


def refresh(lake: DrainedLake) -> None:
    lake.trades_refresh().take_in_news()
    lake.quotes_refresh().take_in_news()
    for spec in (MINUTES, HOURS):
        lake.candles_refresh(spec=spec).take_in_news()


def test_one_run_finds_all_that_is_bad(lake: DrainedLake) -> None:
    fill(lake)
    good = judged(lake)
    assert {key for key, each in good.items() if not each.passed} == set()

    # Bad messages; ids that are missing; rows past our own writer in every layer; a candle that is another.
    lake.drain(*(at(NOON_MS + 1000 * n, n, p="-1") for n in range(121, 131)), b"no envelope")
    lake.drain(at(NOON_MS + 200_000, 200, s="ETHUSDT"))
    lake.append(BRONZE, lake.rows(BRONZE)[:1])
    far = trades_of(range(1000, 1700), start=130, price="90000", ingestion_timestamp=None)
    for row in far:
        row["ingestion_timestamp"] = row["timestamp"] - timedelta(seconds=60)
    stopped = trades_of(range(1, 31), symbol="ETHUSDT", price="5")
    lake.append(SILVER, [*stopped, *far, a_trade(1701, 840, price="-5", side="buy", kafka_topic="none")])
    crossed = [a_quote(n, n + 100, bid="61840", ask="61837", symbol="BTCUSDT") for n in range(500, 510)]
    lake.append(SILVER_QUOTES, [*crossed, a_quote(600, 600, bid="-1")])
    refresh_gold = [lake.trades_refresh(), lake.quotes_refresh()]
    for each in refresh_gold:
        each.take_in_news()
    lake.append(GOLD_TRADES, [lake.rows(GOLD_TRADES)[0], a_trade(9000, 850, symbol="LTCUSDT", price="5")])
    lake.append(GOLD_QUOTES, [lake.rows(GOLD_QUOTES)[0]])
    for spec in (MINUTES, HOURS):
        [first, *_] = lake.rows(spec)
        lake.append(spec, [first | {"is_complete": False, "missing_trades": 3}])

    found = judged(lake)

    failed = {key for key, each in found.items() if not each.passed}
    expected = {
        *((SILVER.name, name) for name in ("schema_and_ranges", "reject_rate", "same_as_bronze")),
        (SILVER_QUOTES.name, "schema_and_ranges"),
        # A day of 2024 is history for event_time_lag, and no venue began its ids again.
        *((check.table, check.name) for check in OF_GOLD if check.name not in {"event_time_lag", "ids_go_on"}),
    }
    assert failed - expected == set()
    assert expected - failed == set()
    assert all(each.description and each.description.endswith(".") for each in found.values())
    assert all("sample" in each.metadata or "faults" in each.metadata or name == "fit_for_candles"
               for (_, name), each in found.items() if not each.passed)  # fmt: skip
