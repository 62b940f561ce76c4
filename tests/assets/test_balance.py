"""The checks that compare layers as sets, in DuckDB: on rows that balance and on rows that do not."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from k2_assets.build_definitions import build_definitions
from k2_assets.gold.gold_balance import GOLD_BALANCES
from k2_assets.lake.lake_resource import Lake
from k2_assets.orchestration.balance_check import BalanceCheck, duckdb_resource
from k2_assets.orchestration.run_tags import PARTITION_TAG
from k2_assets.orchestration.verdict import Verdict
from k2_assets.silver.checks import silver_balance
from k2_core.lake.tables import CANDLES, GOLD_OHLCV_1M, GOLD_QUOTES, GOLD_TRADES
from k2_core.settings import Settings
from k2_core.venues import binance
from tests.assets import lakes
from tests.assets.drained import BRONZE, REJECTED, SILVER, DrainedLake, at, received
from tests.assets.frames import NOON_MS
from tests.assets.lakes import DAY, SILVER_QUOTES, SmallLake, a_quote, a_trade, trades_of

MIDNIGHT_MS = NOON_MS + 12 * 3_600_000
CONTROL = b'{"result":null,"id":1}'
TOPIC = "market.crypto.trades.binance.raw"


@pytest.fixture(name="drained")
def a_drained_lake(tmp_path: Path) -> Iterator[DrainedLake]:
    made = DrainedLake(tmp_path / "drained")
    yield made
    made.catalog.close()


def judged(lake: SmallLake, check: BalanceCheck, days_later: int = 0) -> Verdict:
    with duckdb_resource(lake.settings).get_connection() as connection:
        return check.judge(Lake(lake.settings), connection, DAY + timedelta(days=days_later))


def of(table: str) -> BalanceCheck:
    [check] = [each for each in GOLD_BALANCES if each.table == table]
    return check


def fill(lake: DrainedLake) -> None:
    """Messages of noon, some with trades of the next day, in two partitions; control frames on a channel of trades."""
    lake.drain(at(NOON_MS, 1), received(CONTROL), received(b'{"stream":'), at(NOON_MS, 2, p="-1"), b"no envelope")
    lake.drain(received(CONTROL), at(NOON_MS, 3), at(MIDNIGHT_MS + 1, 4), partition=1)


def test_each_message_of_bronze_is_in_silver_in_rejected_or_carries_nothing(drained: DrainedLake) -> None:
    check = silver_balance(binance, "trades")
    assert judged(drained, check).passed, "an empty lake"
    fill(drained)

    found = judged(drained, check)

    assert (found.passed, found.sentence) == (
        True,
        f"Of 7 messages of {TOPIC} received on 2024-08-09, 2 are in silver, 3 in rejected, and 2 are control frames: "
        "no message is missing.",
    )
    assert judged(drained, check, 1).counts["in bronze"] == 1


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (lambda lake: lake.table(SILVER).delete("source_sequence = 3"), "1 message is missing."),
        (lambda lake: lake.table(REJECTED).delete("reason = 'malformed_json'"), "1 message is missing."),
        (lambda lake: lake.append(BRONZE, lake.rows(BRONZE)[:1]), "1 message is in bronze twice."),
        (
            lambda lake: lake.table(BRONZE).delete("kafka_partition = 1"),
            "1 message of silver or rejected is not in bronze.",
        ),
    ],
)
def test_a_message_that_is_missing_or_twice_is_found(drained: DrainedLake, damage: Any, fault: str) -> None:
    fill(drained)
    damage(drained)
    found = judged(drained, silver_balance(binance, "trades"))
    assert not found.passed
    assert found.sentence.endswith(fault)
    assert found.samples.height == 1


def test_gold_holds_what_silver_holds_once(lake: SmallLake) -> None:
    check = of(GOLD_TRADES.name)
    lake.append(lakes.SILVER, [*trades_of(range(1, 10)), *trades_of(range(5, 8))])
    lake.trades_refresh().take_in_news()
    lake.append(lakes.SILVER, trades_of(range(20, 30)))  # gold has not taken it in: that is no fault

    found = judged(lake, check)

    assert (found.passed, found.sentence) == (
        True,
        "Of 12 rows of silver of 2024-08-09, 3 are duplicates and 9 are in gold: no trade is missing in gold.",
    )


def test_a_trade_that_gold_lacks_has_twice_or_alone_is_found(lake: SmallLake) -> None:
    check = of(GOLD_TRADES.name)
    lake.append(lakes.SILVER, trades_of(range(1, 10)))
    lake.trades_refresh().take_in_news()

    lake.table(GOLD_TRADES).delete("source_sequence = 3")
    lacking = judged(lake, check)
    lake.append(GOLD_TRADES, [a_trade(3), a_trade(4), a_trade(77)])
    more = judged(lake, check)

    assert (lacking.passed, more.passed) == (False, False)
    assert lacking.sentence.endswith("9 rows of silver of 2024-08-09, 0 are duplicates and 8 are in gold: "
                                     "1 trade is missing in gold.")  # fmt: skip
    assert more.sentence.endswith("1 trade of gold is not in silver; 1 trade is repeated in gold.")
    assert lacking.samples["example"].to_list() == [a_trade(3)["message_id"]]


def test_a_quote_that_is_stored_on_the_day_beside_is_not_missing(lake: SmallLake) -> None:
    midnight = datetime(2024, 8, 10, tzinfo=UTC)
    copies = [a_quote(7, midnight - timedelta(seconds=1)), a_quote(7, midnight + timedelta(seconds=1))]
    lake.append(SILVER_QUOTES, [*copies, a_quote(8, midnight + timedelta(seconds=2))])
    for day in (DAY, DAY + timedelta(days=1)):
        lake.quotes_refresh(day).take_in_news()
    found = [judged(lake, of(GOLD_QUOTES.name), later) for later in (0, 1)]
    assert [each.passed for each in found] == [True, True]
    assert ", 1 on a day beside it" in found[1].sentence


@pytest.mark.parametrize("spec", [CANDLES[0], CANDLES[-1]], ids=lambda spec: spec.name)
def test_candles_add_up_to_gold_until_a_trade_comes_that_they_do_not_have(lake: SmallLake, spec: Any) -> None:
    rows = [*trades_of(range(1, 200), quantity="0.00000001"), *trades_of(range(1, 50), symbol="ETHUSDT")]
    lake.append(lakes.SILVER, rows)
    lake.trades_refresh().take_in_news()
    for each in {GOLD_OHLCV_1M.name: GOLD_OHLCV_1M, spec.name: spec}.values():
        lake.candles_refresh(spec=each).take_in_news()
    found = judged(lake, of(spec.name))
    assert (found.passed, found.sentence) == (
        True,
        "Volume and count of the candles of 2024-08-09 equal those of gold's trades, of each instrument.",
    )

    lake.append(GOLD_TRADES, [a_trade(500, 10, symbol="ETHUSDT", quantity="0.00000001")])

    found = judged(lake, of(spec.name))
    assert (found.passed, found.sentence) == (
        False,
        "Volume or count of the candles of 2024-08-09 differ from gold's trades: 1 instrument.",
    )
    assert found.samples.row(0)[:4] == ("binance", "ETHUSDT", 50, 49)


def test_the_job_of_the_night_compares_the_day_before(tmp_path: Path) -> None:
    definitions = build_definitions(Settings(home=tmp_path / "home"), DAY)
    schedule = definitions.resolve_schedule_def("balance_schedule")
    at = datetime(2024, 8, 10, 0, 40, tzinfo=UTC)
    with dg.DagsterInstance.ephemeral() as instance, dg.build_schedule_context(instance, at) as context:
        [request] = schedule.evaluate_tick(context).run_requests or []
        assert request.tags[PARTITION_TAG] == DAY.isoformat()

        run = definitions.resolve_job_def("balance").execute_in_process(tags=dict(request.tags), instance=instance)

        assert run.success
        checks = run.get_asset_check_evaluations()
    assert {each.partition for each in checks} == {DAY.isoformat()}
    assert {each.check_name for each in checks} == {"same_as_bronze", "same_as_silver", "same_as_trades"}
    assert all(each.passed for each in checks)
