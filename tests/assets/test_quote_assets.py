"""Gold's quotes as Dagster makes them: the asset and the check that no quote appears twice."""

import dagster as dg

from k2_assets.gold.assets import gold_assets
from k2_assets.gold.checks import GOLD_CHECKS, gold_checks
from k2_assets.gold.judged_day import JudgedDay
from k2_assets.lake.lake_resource import Lake
from k2_assets.lake.source_files import as_frame
from k2_assets.orchestration.daily_partitions import daily
from k2_assets.silver.checks import silver_result
from k2_core.lake.tables import GOLD_QUOTES
from tests.assets.lakes import DAY, SILVER_QUOTES, Row, SmallLake, a_quote, to_arrow


def materialize(lake: SmallLake) -> dict[str, bool]:
    """Make the day, and return which of its checks passed."""
    with dg.DagsterInstance.ephemeral() as instance:
        run = dg.materialize(
            [*gold_assets(daily(DAY)), *gold_checks(daily(DAY))],
            selection=[GOLD_QUOTES.name],
            partition_key=DAY.isoformat(),
            resources={"lake": Lake(lake.settings)},
            instance=instance,
        )
    return {check.check_name: check.passed for check in run.get_asset_check_evaluations()}


def test_gold_is_made_and_passes_its_check(lake: SmallLake) -> None:
    lake.append(SILVER_QUOTES, [a_quote(n, n, ask=None if n % 2 else "101") for n in range(1, 50)])

    assert materialize(lake) == {"unique_message_id": True, "bid_not_above_ask": True}
    assert len(lake.gold_quotes()) == 49


def test_a_quote_that_stands_twice_is_found(lake: SmallLake) -> None:
    lake.append(SILVER_QUOTES, [a_quote(1), a_quote(2)])
    materialize(lake)
    lake.append(GOLD_QUOTES, [a_quote(1)])  # past our own writer

    [check] = [each for each in GOLD_CHECKS if (each.table, each.name) == (GOLD_QUOTES.name, "unique_message_id")]
    assert not check.judge(JudgedDay(Lake(lake.settings), GOLD_QUOTES.name, DAY, whole=False)).passed
    assert materialize(lake)["unique_message_id"], "after a rebuild it is gone"


def test_a_price_below_zero_and_an_unknown_id_are_found_in_silver_and_a_missing_side_is_none() -> None:
    def judged(*rows: Row) -> dg.AssetCheckResult:
        return silver_result(as_frame(to_arrow(SILVER_QUOTES, list(rows))), DAY, "quotes")

    assert judged(a_quote(1), a_quote(2, bid=None), a_quote(3, bid="102"), a_quote(None, 4)).passed
    assert not judged(a_quote(1), a_quote(2, bid="-3")).passed
    assert not judged(a_quote(1, message_id="1")).passed
