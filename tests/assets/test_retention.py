"""Retention: what goes and what stays, and that the layers above a removed day lose nothing."""

import tempfile
from collections.abc import Iterator
from contextlib import suppress
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final

import polars as pl
import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from pyiceberg.expressions import EqualTo

from k2_assets.bronze.reconcile import reconcile_day
from k2_assets.gold.candle_rows import PROOF, SHAPE, Span, candles
from k2_assets.lake.rewrites import replace_files
from k2_assets.lake.source_files import as_frame, live_files
from k2_assets.lake.table_history import create_tag, make_tags
from k2_assets.lake.table_lock import lock
from k2_assets.maintenance import retention as applied
from k2_assets.maintenance.retention import Removal, TableRetention
from k2_assets.maintenance.table_round import TableRound
from k2_assets.reference.epoch_register import days_to_rebuild, epochs_table, read_epochs, write_epochs
from k2_assets.silver import rebuild_day
from k2_core import clock
from k2_core.epochs import NO_EPOCHS
from k2_core.errors import RemovedByRetention
from k2_core.lake.planned_read import data_file
from k2_core.lake.removed_days import RemovedDays
from k2_core.lake.retention_policy import TablePolicy
from k2_core.lake.table_spec import TableSpec
from k2_core.lake.tables import CANDLES, GOLD_OHLCV_1M, GOLD_RESTATEMENTS, GOLD_TRADES
from k2_core.settings import LegalHold, Maintenance
from k2_core.timeframes import MINUTE_US
from k2_core.venues import binance
from tests.assets.drained import BRONZE, REJECTED, DrainedLake, KnownSchemas, at, received
from tests.assets.frames import NOON_MS, a_frame
from tests.assets.lakes import DAY, NOON, SILVER, Row, SmallLake, a_trade, current_id, trades_of
from tests.assets.test_candle_rows import frame

NEXT = DAY + timedelta(days=1)
DAY_MS = 86_400_000
NOON_S = 43_200
FIVE_MINUTES = CANDLES[1]
FIVE_MINUTES_US = 5 * MINUTE_US


def policy(spec: TableSpec = SILVER, days: int = 30, *holds: dict[str, Any]) -> TablePolicy:
    return TablePolicy(spec, days, tuple(LegalHold.model_validate(each) for each in holds))


def retention(lake: SmallLake, spec: TableSpec = SILVER, *holds: dict[str, Any], days: int = 30) -> TableRetention:
    return TableRetention(lake.catalog, lake.namespace, policy(spec, days, *holds))


def removed(lake: SmallLake, spec: TableSpec = SILVER) -> list[date]:
    found = RemovedDays.of(lake.table(spec).properties)
    return [DAY + timedelta(days=number) for number in range(-40, 40) if DAY + timedelta(days=number) in found]


def days_in(lake: SmallLake, spec: TableSpec = SILVER) -> set[date]:
    return {each.day for each in live_files(lake.table(spec), spec.partition_by)}


def whys(removal: Removal) -> list[tuple[date, tuple[str, ...]]]:
    return [(each.first, each.held_by) for each in removal.partitions]


def two_days(lake: SmallLake, *, taken_in: bool = True) -> None:
    """Two days of silver, in gold and candles."""
    lake.append(SILVER, [*trades_of(range(1, 11, 2), 40), *trades_of(range(11, 21, 2), 40, start=86_400)])
    if taken_in:
        for day in (DAY, NEXT):
            lake.trades_refresh(day).take_in_news()
            lake.candles_refresh(day).take_in_news()


def test_a_day_goes_once_it_is_old_and_in_gold_and_gold_notices_nothing(lake: SmallLake) -> None:
    two_days(lake)
    lake.append(SILVER, [a_trade(21, NOON + timedelta(days=1, hours=1), ingestion_timestamp=clock.now())])
    lake.trades_refresh(NEXT).take_in_news()
    gold, before = lake.gold(), lake.metadata_location(SILVER)

    shown = retention(lake).dry_run()
    assert lake.metadata_location(SILVER) == before
    done = retention(lake).run()

    # A row of the next day was ingested just now: its whole day stays.
    assert whys(done) == whys(shown) == [(DAY, ())]
    assert (done.going[0].rows, done.done, shown.done) == (5, True, False)
    assert (days_in(lake), removed(lake)) == ({NEXT}, [DAY])
    assert lake.days_behind(GOLD_TRADES.name, SILVER.name) == set()
    assert lake.trades_refresh(DAY).take_in_news().rows_added == 0
    assert lake.gold() == gold
    assert retention(lake).run().partitions == ()


def test_a_day_stays_until_gold_has_taken_all_of_it_in(lake: SmallLake) -> None:
    two_days(lake)
    lake.append(SILVER, [a_trade(2, 5)])

    [(day, why)] = [each for each in whys(retention(lake).run()) if each[1]]

    assert (day, removed(lake)) == (DAY, [NEXT])
    assert "gold_crypto_trades has not taken in all of it" in why[0]
    lake.trades_refresh(DAY).take_in_news()
    retention(lake).run()
    assert (removed(lake), days_in(lake)) == ([DAY, NEXT], set())
    assert len(lake.gold()) == 11


def test_a_rebuild_of_a_removed_day_of_gold_is_refused_and_late_trades_still_come(lake: SmallLake) -> None:
    two_days(lake)
    retention(lake).run()
    gold = lake.gold()

    with pytest.raises(RemovedByRetention, match=f"{GOLD_TRADES.name} of {DAY} stays as it is: .*{SILVER.name}"):
        lake.trades_refresh(DAY).replace_day()
    assert lake.gold() == gold

    lake.append(SILVER, [a_trade(2, 7)])
    assert lake.days_behind(GOLD_TRADES.name, SILVER.name) == {DAY}
    lake.trades_refresh(DAY).take_in_news()
    assert len(lake.gold()) == len(gold) + 1
    with pytest.raises(RemovedByRetention):
        lake.trades_refresh(DAY).replace_day()


def test_a_marked_day_whose_silver_is_gone_keeps_its_gold(lake: SmallLake) -> None:
    """As when an epoch is found after the removal: the day is rebuilt no more, and it is reported."""
    two_days(lake)
    retention(lake).run()
    lake.append(SILVER, [a_trade(2, 7)])
    gold = lake.gold()
    with lake.table(SILVER).transaction() as transaction:
        transaction.set_properties({"k2.rebuilt": f'{{"{DAY}":"token"}}'})

    with pytest.raises(RemovedByRetention):
        lake.trades_refresh(DAY).take_in_news()

    assert lake.gold() == gold


def test_a_named_tag_holds_its_days_and_automatic_ones_lapse_with_them(lake: SmallLake) -> None:
    two_days(lake)
    create_tag(lake.catalog, (lake.namespace, SILVER.name), "report", current_id(lake))
    later = NEXT + timedelta(days=1)
    lake.append(SILVER, [a_trade(21, NOON + timedelta(days=2))])
    lake.trades_refresh(later).take_in_news()
    with lock(lake.catalog, f"history:{SILVER.name}", 5) as lease:
        automatic = {"auto-month-2024-08": current_id(lake), "auto-month-2024-09": current_id(lake)}
        make_tags(lambda: lake.table(SILVER), lease, lambda _: automatic)

    assert whys(retention(lake).run()) == [(DAY, ("tag report",)), (NEXT, ("tag report",)), (later, ())]

    assert days_in(lake) == {DAY, NEXT}
    # Maintenance lets the tags lapse that still name the removed file, creates none for such a state, and expires it.
    eager = Maintenance(drained_keep_s=1, settle_s=0)
    clocks = clock.now_ns
    clock.now_ns = lambda: clocks() + 40 * 86_400 * clock.NS_PER_SECOND
    try:
        report = TableRound(lake.catalog, lake.namespace, SILVER, eager).run()
    finally:
        clock.now_ns = clocks
    assert set(report.tags_lapsed) == set(automatic)
    table = lake.table(SILVER)
    tags = {name for name in table.metadata.refs if name != "main"}
    assert "report" in tags
    assert all(
        later not in {each.day for each in live_files(table, "timestamp", snapshot_id=each_.snapshot_id)}
        for each_ in table.metadata.snapshots
    )


@pytest.mark.parametrize(
    ("hold", "stays"),
    [
        ({"from": DAY, "to": DAY}, [DAY]),
        ({"from": NEXT, "to": NEXT + timedelta(days=9), "symbol": "BTCUSDT"}, [NEXT]),
        ({"from": DAY, "to": NEXT, "symbol": "ETHUSDT"}, []),
        ({"from": DAY, "to": NEXT, "exchange": "binance", "table": SILVER.name}, [DAY, NEXT]),
        ({"from": DAY, "to": NEXT, "exchange": "kraken"}, []),
        ({"from": DAY - timedelta(days=9), "to": DAY - timedelta(days=1)}, []),
    ],
)
def test_a_legal_hold_keeps_its_days_whole(lake: SmallLake, hold: dict[str, Any], stays: list[date]) -> None:
    two_days(lake)

    found = retention(lake, SILVER, {"reason": "case 17", **hold}).run()

    assert [day for day, why in whys(found) if why == ("legal hold: case 17",)] == stays
    assert sorted(days_in(lake)) == stays


@pytest.fixture(name="drained")
def a_drained_lake(tmp_path: Path) -> Iterator[DrainedLake]:
    made = DrainedLake(tmp_path / "drained")
    yield made
    made.catalog.close()


def fill(lake: DrainedLake) -> None:
    """Two days of receipt, two partitions; the second day also brings a trade of the first."""
    lake.drain(at(NOON_MS, 1), at(NOON_MS + 1, 2))
    lake.drain(at(NOON_MS, 3), received(b'{"stream":'), partition=1)
    lake.drain(at(NOON_MS + DAY_MS, 4), received(a_frame(5, T=NOON_MS + 2, E=NOON_MS + 2), NOON_MS + DAY_MS))


def test_bronze_goes_once_silver_and_rejected_have_taken_it_in(drained: DrainedLake) -> None:
    fill(drained)
    offsets = drained.table(SILVER).properties["k2.offsets"]
    behind = offsets.replace(":2}", ":1}") if ":2}" in offsets else offsets
    assert behind != offsets
    for name in (REJECTED, SILVER):
        with drained.table(name).transaction() as transaction:
            transaction.set_properties({"k2.offsets": behind})
        first = whys(retention(drained, BRONZE).dry_run())[0]
        assert (first[0], [why.split()[0] for why in first[1]]) == (DAY, [name.name])
        with drained.table(name).transaction() as transaction:
            transaction.set_properties({"k2.offsets": offsets})
    before = drained.frames(SILVER), drained.frames(REJECTED)

    retention(drained, BRONZE).run()

    assert drained.rows(BRONZE) == []
    assert (drained.frames(SILVER), drained.frames(REJECTED)) == before
    drained.drain(at(NOON_MS + DAY_MS + 5, 6))  # the drain goes on from its offsets
    assert drained.ids() == [1, 2, 3, 4, 5, 6]


def test_a_rebuild_of_silver_is_refused_where_its_frames_may_be_gone(drained: DrainedLake) -> None:
    fill(drained)
    with drained.table(BRONZE).transaction() as transaction:
        transaction.set_properties(RemovedDays([DAY]).to_properties())

    with pytest.raises(RemovedByRetention, match=f"{SILVER.name} of {DAY} stays .*{BRONZE.name}.* removed {DAY};"):
        drained.rebuild(DAY)
    assert drained.rebuild(NEXT).rows_written == 0


def test_a_removed_day_of_bronze_is_compared_with_kafka_only_when_asked(drained: DrainedLake) -> None:
    with drained.table(BRONZE).transaction() as transaction:
        transaction.set_properties(RemovedDays([DAY]).to_properties())

    with pytest.raises(RemovedByRetention, match=f"{BRONZE.name} of {DAY} was removed by retention"):
        reconcile_day(drained.catalog, drained.namespace, "nowhere:1", venue=binance, day=DAY, schemas=KnownSchemas())


def test_days_whose_ids_began_again_stay_until_they_are_rebuilt(
    drained: DrainedLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebuild_day, "drains_know", lambda _: True)
    fill(drained)
    for day in (DAY, NEXT):
        drained.trades_refresh(day).take_in_news()
    start = clock.to_us(NOON - timedelta(hours=1))
    write_epochs(drained.catalog, drained.namespace, NO_EPOCHS, {("binance", "ETHUSDT"): (start,)}, [DAY])
    again = "ids began again, and the days concerned are to be rebuilt from it"

    # Frames of a day come on it or later.
    assert whys(retention(drained, BRONZE).dry_run()) == [(DAY, (again,)), (NEXT, (again,))]
    assert whys(retention(drained).dry_run()) == [(DAY, (again,)), (NEXT, ())]

    drained.rebuild(DAY)
    assert whys(retention(drained, BRONZE).dry_run()) == [(DAY, ()), (NEXT, ())]
    assert [bool(why) for _, why in whys(retention(drained).dry_run())] == [True, False]
    drained.trades_refresh(DAY).take_in_news()
    assert whys(retention(drained).dry_run()) == [(DAY, ()), (NEXT, ())]


def test_nobody_asks_for_days_of_an_epoch_whose_frames_are_gone(drained: DrainedLake) -> None:
    fill(drained)
    start = clock.to_us(NOON - timedelta(hours=1))
    write_epochs(drained.catalog, drained.namespace, NO_EPOCHS, {("binance", "BTCUSDT"): (start,)}, [DAY, NEXT])
    epochs = epochs_table(drained.catalog, drained.namespace)
    assert epochs is not None
    tables = drained.table(SILVER), drained.table(BRONZE)
    assert days_to_rebuild(epochs, "binance", *tables) == {DAY, NEXT}
    assert days_to_rebuild(epochs, "kraken", *tables) == set()

    with drained.table(BRONZE).transaction() as transaction:
        transaction.set_properties(RemovedDays([DAY]).to_properties())

    assert days_to_rebuild(epochs, "binance", drained.table(SILVER), drained.table(BRONZE)) == {NEXT}


def test_a_rebuild_brings_no_row_back_into_a_removed_day_of_silver(drained: DrainedLake) -> None:
    fill(drained)
    table = drained.table(SILVER)
    with lock(drained.catalog, f"files:{SILVER.name}", 5) as lease:
        gone = [data_file(each) for each in live_files(table, "timestamp", day=DAY)]
        replace_files(lambda: drained.table(SILVER), lease, gone, [], RemovedDays([DAY]).to_properties())

    outcome = drained.rebuild(DAY)

    assert (outcome.rows_written, outcome.rows_replaced) == (0, 0)
    assert drained.ids() == [4]


def test_a_hold_on_days_of_trades_keeps_the_frames_that_came_later(drained: DrainedLake) -> None:
    fill(drained)
    hold = {"from": DAY, "to": DAY, "reason": "case 17"}
    assert whys(retention(drained, BRONZE, hold).dry_run()) == [
        (DAY, ("legal hold: case 17",)),
        (NEXT, ("legal hold: case 17",)),
    ]
    later = {"from": NEXT + timedelta(days=1), "to": NEXT + timedelta(days=1), "reason": "case 18"}
    assert [why for _, why in whys(retention(drained, BRONZE, later).dry_run())] == [(), ()]


def minutes_later(minutes: float, trade_id: int, **other: Any) -> Row:
    return a_trade(trade_id, NOON + timedelta(minutes=minutes), **other)


def wide(lake: SmallLake) -> pl.DataFrame:
    rows = as_frame(lake.table(FIVE_MINUTES).scan().to_arrow()).select(*SHAPE, *PROOF)
    return rows.sort("exchange", "symbol", "window_start")


def by_trades(lake: SmallLake) -> pl.DataFrame:
    """The same candles as the trades of gold give them."""
    rows = lake.rows(GOLD_TRADES)
    first, end = clock.to_us(NOON - timedelta(days=3)), clock.to_us(NOON + timedelta(days=6))
    aligned = first - first % FIVE_MINUTES_US
    spans = [Span("binance", symbol, aligned, end) for symbol in sorted({row["symbol"] for row in rows})]
    made = candles(frame(rows), spans, FIVE_MINUTES_US, read_epochs(epochs_table(lake.catalog, lake.namespace)))
    return made.select(*SHAPE, *PROOF).sort("exchange", "symbol", "window_start")


def minutes(lake: SmallLake) -> list[Row]:
    return [{**row, "created_at": None, "updated_at": None} for row in lake.rows(GOLD_OHLCV_1M)]


def refresh(lake: SmallLake, *days: date) -> None:
    """Bring gold up to silver as refine does: a day changes candles of those beside it."""
    for day in days:
        lake.trades_refresh(day).take_in_news()
    for spec, source in ((GOLD_OHLCV_1M, GOLD_TRADES), (FIVE_MINUTES, GOLD_OHLCV_1M)):
        while behind := lake.days_behind(spec.name, source.name):
            lake.candles_refresh(min(behind), spec).take_in_news()


def remove_minutes(lake: SmallLake, monkeypatch: pytest.MonkeyPatch, *, only: bool = True) -> Removal:
    """Have retention remove one-minute candles when they are old; of wider ones there are those of five minutes."""
    real = clock.now_us
    with monkeypatch.context() as patch:
        patch.setattr(clock, "now_us", lambda: real() + 100 * 86_400 * clock.US_PER_SECOND)
        if only:
            patch.setattr(applied, "derived_from", lambda _: (FIVE_MINUTES.name,))
        return retention(lake, GOLD_OHLCV_1M, days=90).run()


def test_wider_candles_are_built_from_trades_where_minutes_are_gone(
    lake: SmallLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake.append(SILVER, [minutes_later(each * 3, each * 4) for each in range(1, 13)])
    lake.append(SILVER, [minutes_later(720 + each * 3, each * 4, symbol="ETHUSDT") for each in range(1, 4)])
    lake.append(SILVER, [minutes_later(1440 + each * 3, each * 4) for each in range(13, 18)])
    refresh(lake, DAY, NEXT)
    before = wide(lake)
    assert [each.held_by for each in remove_minutes(lake, monkeypatch).partitions] == [(), ()]
    assert lake.rows(GOLD_OHLCV_1M) == []
    assert lake.days_behind(FIVE_MINUTES.name, GOLD_OHLCV_1M.name) == set()

    for day in (DAY, NEXT):
        lake.candles_refresh(day, FIVE_MINUTES).replace_day()
    assert_frame_equal(wide(lake), before)
    lake.table(FIVE_MINUTES).delete(EqualTo("symbol", "BTCUSDT"))  # as when they were removed as well
    for day in (DAY, NEXT):
        lake.candles_refresh(day, FIVE_MINUTES).replace_day()
    assert_frame_equal(wide(lake), before)

    # Late trades: within a removed day, and on days beside those that were removed.
    lake.append(SILVER, [minutes_later(8, 11), minutes_later(-800, 1), minutes_later(3000, 71)])
    lake.append(SILVER, [minutes_later(2900, 13, symbol="ETHUSDT")])
    around = [DAY + timedelta(days=number) for number in range(-1, 3)]
    refresh(lake, *around)
    lake.append(SILVER, [minutes_later(7, 9)])  # between minutes that came back
    refresh(lake, *around)

    assert_frame_equal(wide(lake), by_trades(lake))
    assert removed(lake, GOLD_OHLCV_1M) == [DAY, NEXT]
    restated = [row for row in lake.rows(GOLD_RESTATEMENTS) if row["window_start"].date() in {DAY, NEXT}]
    assert {GOLD_TRADES.name, FIVE_MINUTES.name} <= {row["table"] for row in restated}
    assert all(row["before"] for row in restated if row["table"] == GOLD_OHLCV_1M.name)  # what it said is not known
    assert DAY in days_in(lake, GOLD_OHLCV_1M)  # the minutes around the late trade, and no others
    assert len([row for row in lake.rows(GOLD_OHLCV_1M) if row["window_start"].date() == DAY]) <= 6


def test_a_rebuild_of_minutes_brings_a_removed_day_back(lake: SmallLake, monkeypatch: pytest.MonkeyPatch) -> None:
    lake.append(SILVER, [minutes_later(each * 3, each + 1) for each in range(12)])
    refresh(lake, DAY)
    before = minutes(lake)
    remove_minutes(lake, monkeypatch)
    assert removed(lake, GOLD_OHLCV_1M) == [DAY]

    lake.candles_refresh(DAY).replace_day()

    assert minutes(lake) == before
    assert removed(lake, GOLD_OHLCV_1M) == []


def test_minutes_stay_until_every_wider_table_has_taken_them_in(
    lake: SmallLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake.append(SILVER, [minutes_later(each * 3, each + 1) for each in range(4)])
    refresh(lake, DAY)
    for each in CANDLES[2:-1]:
        lake.candles_refresh(DAY, each).take_in_news()

    found = remove_minutes(lake, monkeypatch, only=False)

    why = f"{CANDLES[-1].name} has not taken in all of it, or does not remember it"
    assert whys(found) == [(DAY, (why,))]


OPERATIONS = st.sampled_from(["trade", "late trade", "refresh", "silver", "minutes", "tag", "rebuild", "rebuild wide"])


EVERY: Final = [
    *(("trade", number, 9) for number in range(3)),
    *(("refresh", 0, 0), ("minutes", 0, 0), ("silver", 0, 0), ("rebuild", 0, 0), ("rebuild wide", 1, 0)),
    *(("late trade", 0, 5), ("trade", 1, 200), ("late trade", 2, 1), ("tag", 0, 0), ("silver", 0, 0)),
]


@settings(max_examples=2, phases=[Phase.explicit, Phase.generate])  # an example takes seconds, to shrink it minutes
@example(EVERY)
@given(st.lists(st.tuples(OPERATIONS, st.integers(0, 2), st.integers(0, 400)), min_size=8, max_size=14))
def test_retention_and_rebuilds_in_any_order_lose_no_row_of_gold(operations: list[tuple[str, int, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as monkeypatch:
        lake = SmallLake(Path(folder) / "home")
        try:
            lose_nothing(lake, operations, monkeypatch)
        finally:
            lake.catalog.close()


def lose_nothing(lake: SmallLake, operations: list[tuple[str, int, int]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids rise with time, one every ten seconds at most; a trade of the morning may come after one of noon."""
    hold = {"from": DAY + timedelta(days=2), "to": DAY + timedelta(days=9), "reason": "case 17"}
    sent, held = {0}, set[date]()
    lake.append(SILVER, [a_trade(0, -NOON_S)])
    every = [DAY + timedelta(days=number) for number in range(3)]
    refresh(lake, *every)
    for operation, number, moment in operations:
        day = every[number]
        if operation in {"trade", "late trade"}:
            trade_id = 8_640 * number + moment + (0 if operation == "late trade" else 4_000)
            if trade_id not in sent:
                sent.add(trade_id)
                lake.append(SILVER, [a_trade(trade_id, trade_id * 10 - NOON_S)])
        elif operation == "refresh":
            refresh(lake, *every)
        elif operation == "silver":
            retention(lake, SILVER, hold).run()
        elif operation == "minutes":
            remove_minutes(lake, monkeypatch)
        elif operation == "tag":
            create_tag(lake.catalog, (lake.namespace, SILVER.name), f"tag-{len(held)}", current_id(lake))
            held |= days_in(lake)
        else:
            with suppress(RemovedByRetention):
                of_day = lake.trades_refresh(day) if operation == "rebuild" else lake.candles_refresh(day, FIVE_MINUTES)
                of_day.replace_day()
    before = {row["source_sequence"] for row in lake.rows(GOLD_TRADES)}
    refresh(lake, *every)
    found = {row["source_sequence"] for row in lake.gold().values()}
    assert before <= found
    assert found == sent
    assert held <= days_in(lake)
    assert not {day for day in removed(lake) if day >= hold["from"]}
    assert_frame_equal(wide(lake), by_trades(lake))


def test_a_month_of_candles_goes_when_all_of_it_is_old(lake: SmallLake, monkeypatch: pytest.MonkeyPatch) -> None:
    one_day = CANDLES[-1]
    two_days(lake)
    for day in (DAY, NEXT):
        lake.candles_refresh(day, one_day).take_in_news()
    hold = {"from": date(2024, 8, 31), "to": date(2024, 9, 1), "reason": "case 17"}
    real = clock.now_us
    monkeypatch.setattr(clock, "now_us", lambda: real() + 2000 * 86_400 * clock.US_PER_SECOND)

    assert whys(retention(lake, one_day, hold).run()) == [(date(2024, 8, 1), ("legal hold: case 17",))]
    retention(lake, one_day).run()

    assert lake.rows(one_day) == []
    assert str(RemovedDays.of(lake.table(one_day).properties)) == "2024-08-01 to 2024-08-31"
