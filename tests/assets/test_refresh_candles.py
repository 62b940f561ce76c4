import random
from datetime import UTC, date, datetime, timedelta

import pytest
from pyiceberg.expressions import EqualTo

from k2_assets.gold import refresh_candles
from k2_assets.gold.bounding_trades import Source, Touched, bounded_rows
from k2_assets.gold.candle_rows import TRADE_COLUMNS
from k2_assets.lake.source_files import live_files
from k2_core import clock
from k2_core.lake.table_spec import TableSpec
from k2_core.lake.tables import CANDLES, GOLD_OHLCV_1M, GOLD_TRADES
from k2_core.timeframes import MINUTE_US
from tests.assets.by_hand import candles_by_hand, contents
from tests.assets.lakes import DAY, NOON, SILVER, Row, SmallLake, a_trade, trades_of

MIDNIGHT = datetime(2024, 8, 10, tzinfo=UTC)


def as_it_stands(lake: SmallLake) -> dict[tuple[str, datetime], Row]:
    return contents(lake.rows(GOLD_OHLCV_1M))


def minutes(lake: SmallLake) -> dict[int, tuple[bool, int]]:
    """Minute after noon → (is_complete, missing_trades)."""
    return {
        (start - NOON) // timedelta(minutes=1): (row["is_complete"], row["missing_trades"])
        for (_, start), row in as_it_stands(lake).items()
    }


def refresh_all(lake: SmallLake) -> None:
    """Refresh every day that has news of candles, finest first, until none has."""
    while days := lake.days_behind(GOLD_OHLCV_1M.name, GOLD_TRADES.name):
        for day in sorted(days):
            lake.candles_refresh(day).take_in_news()
    lake.refresh_wider_candles()


def every_timeframe(lake: SmallLake) -> dict[str, dict[tuple[str, datetime], Row]]:
    return {spec.name: contents(lake.rows(spec)) for spec in CANDLES}


def every_timeframe_by_hand(rows: list[Row]) -> dict[str, dict[tuple[str, datetime], Row]]:
    return {spec.name: candles_by_hand(rows, timedelta(microseconds=width_of(spec))) for spec in CANDLES}


def width_of(spec: TableSpec) -> int:
    assert spec.timeframe
    return spec.timeframe.width_us


def days_of(rows: list[Row]) -> list[date]:
    return sorted({row["timestamp"].date() for row in rows})


def test_a_refresh_builds_the_candles_of_new_trades_and_again_changes_nothing(lake: SmallLake) -> None:
    rows = trades_of(range(1, 20), 30)
    lake.append(GOLD_TRADES, rows)

    first = lake.candles_refresh().take_in_news()
    before = lake.metadata_location(GOLD_OHLCV_1M)
    second = lake.candles_refresh().take_in_news()
    whole = lake.candles_refresh().replace_day()

    assert (first.windows_computed, first.windows_changed) == (10, 10)
    assert (second.windows_computed, whole.windows_changed) == (0, 0)
    assert lake.metadata_location(GOLD_OHLCV_1M) == before
    assert as_it_stands(lake) == candles_by_hand(rows)


@pytest.mark.parametrize("_", range(3))
def test_what_grows_batch_by_batch_equals_what_is_built_at_once(lake: SmallLake, rng: random.Random, _: int) -> None:
    """Days, symbols, batches and their order by chance; ids in order of time but for some seconds, as at venues."""
    rows: list[Row] = []
    early = rng.choice([0, 25])
    for symbol in ("BTCUSDT", "ETHUSDT", "BNBUSDT")[: rng.randint(1, 3)]:
        second = rng.uniform(-2 * 86_400, 0)
        for number in range(1, rng.randint(2, 30)):
            second += rng.choice([1, 20, 20, 61, 200, 7_000, 90_000])
            if rng.random() < 0.9:  # the others never come: holes
                moment = second + rng.uniform(-early, early)
                rows.append(a_trade(number, moment, price=str(rng.randint(1, 9)), symbol=symbol))
    rng.shuffle(rows)
    cut = sorted(rng.sample(range(len(rows)), min(len(rows), rng.randint(0, 5)))) if rows else []
    for first, end in zip([0, *cut], [*cut, len(rows)], strict=True):
        batch = rows[first:end]
        if batch:
            lake.append(GOLD_TRADES, batch)
        for day in rng.sample(days_of(batch), len(days_of(batch))):
            lake.candles_refresh(day).take_in_news()
        if rng.random() < 0.5:
            refresh_all(lake)

    refresh_all(lake)
    assert every_timeframe(lake) == every_timeframe_by_hand(rows)
    before = [lake.metadata_location(spec) for spec in CANDLES]
    for spec in CANDLES:
        assert lake.candles_refresh(DAY, spec).replace_day().windows_changed == 0
    refresh_all(lake)
    assert [lake.metadata_location(spec) for spec in CANDLES] == before


def test_a_late_trade_that_fills_a_hole_turns_exactly_those_windows_complete(lake: SmallLake) -> None:
    rows = trades_of(range(1, 13), 20)
    late = rows.pop(6)  # id 7, at the begin of minute 2: its hole lies on the boundary
    lake.append(GOLD_TRADES, rows)
    lake.candles_refresh().take_in_news()
    assert minutes(lake) == {0: (False, 0), 1: (False, 1), 2: (False, 1), 3: (False, 0)}
    before = lake.candles()

    lake.append(GOLD_TRADES, [late])
    outcome = lake.candles_refresh().take_in_news()

    assert minutes(lake) == {0: (False, 0), 1: (True, 0), 2: (True, 0), 3: (False, 0)}
    assert outcome.windows_changed == 2
    for (symbol, start), row in lake.candles().items():
        changed = start in {NOON + timedelta(minutes=1), NOON + timedelta(minutes=2)}
        assert row["created_at"] == before[symbol, start]["created_at"]
        assert (row["updated_at"] > before[symbol, start]["updated_at"]) == changed


def test_a_late_trade_and_a_rare_one_have_only_their_own_trades_read(lake: SmallLake) -> None:
    symbols = ("BTCUSDT", "ETHUSDT", "BNBUSDT")
    lake.append(GOLD_TRADES, [a_trade(n, n * 600, symbol=symbol) for n in range(60) for symbol in symbols])
    lake.append(GOLD_TRADES, [a_trade(0, -30_000, symbol="RAREUSDT")])
    table = lake.table(GOLD_TRADES)
    source = Source(table, live_files(table, "timestamp"), TRADE_COLUMNS, "timestamp")
    noon, now = clock.to_us(NOON), clock.to_us(NOON + timedelta(seconds=36_000))
    touched = [Touched("binance", symbol, now, now) for symbol in ("BNBUSDT", "ETHUSDT", "RAREUSDT")]

    found = bounded_rows(source, [Touched("binance", "BTCUSDT", noon, now), *touched], MINUTE_US)

    read = {symbol: times for (symbol,), times in found.rows.group_by("symbol")}
    assert {symbol: rows.height for symbol, rows in read.items()} == {
        "BTCUSDT": 60,
        "ETHUSDT": 2,
        "BNBUSDT": 2,
        "RAREUSDT": 1,
    }
    assert {span.symbol for span in found.spans} == {*symbols, "RAREUSDT"}


def test_the_newest_window_is_judged_again_when_the_next_trade_is_seen_over_midnight(lake: SmallLake) -> None:
    evening = [a_trade(1, MIDNIGHT - timedelta(minutes=5)), a_trade(2, MIDNIGHT - timedelta(seconds=1))]
    lake.append(GOLD_TRADES, evening)
    lake.candles_refresh(DAY).take_in_news()
    last = ("BTCUSDT", MIDNIGHT - timedelta(minutes=1))
    assert not lake.candles()[last]["is_complete"]

    lake.append(GOLD_TRADES, [a_trade(3, MIDNIGHT + timedelta(days=3))])
    lake.candles_refresh(MIDNIGHT.date() + timedelta(days=3)).take_in_news()

    assert lake.candles()[last]["is_complete"]


def test_a_trade_of_an_old_day_is_proved_by_the_days_around_it(lake: SmallLake) -> None:
    edges = [a_trade(1, NOON - timedelta(days=30)), a_trade(3, NOON + timedelta(days=30))]
    lake.append(GOLD_TRADES, edges)
    for day in days_of(edges):
        lake.candles_refresh(day).take_in_news()
    assert [row["missing_trades"] for row in lake.candles().values()] == [1, 1]

    lake.append(GOLD_TRADES, [a_trade(2)])
    lake.candles_refresh().take_in_news()

    assert as_it_stands(lake) == candles_by_hand([*edges, a_trade(2)])


def test_a_rebuilt_day_leaves_the_candles_of_other_instruments_and_days(lake: SmallLake) -> None:
    """ETHUSDT traded last three days ago: the way back to it goes over candles of BTCUSDT."""
    rows = [a_trade(1, NOON - timedelta(days=3), symbol="ETHUSDT"), a_trade(2, symbol="ETHUSDT")]
    rows += trades_of(range(1, 60), 6_000, -3 * 86_400 + 50)
    lake.append(GOLD_TRADES, rows)
    for day in days_of(rows):
        lake.candles_refresh(day).take_in_news()
    before = lake.candles()

    outcome = lake.candles_refresh().replace_day()

    assert outcome.windows_changed == 0
    assert lake.candles() == before
    assert as_it_stands(lake) == candles_by_hand(rows)


def test_a_rebuilt_day_mends_what_was_wrong_and_drops_what_has_no_trade(lake: SmallLake) -> None:
    rows = trades_of(range(1, 10), 30)
    lake.append(GOLD_TRADES, rows)
    lake.candles_refresh().take_in_news()
    existing = lake.rows(GOLD_OHLCV_1M)
    wrong = [row | {"trade_count": 77} if n == 1 else row for n, row in enumerate(existing)]
    ghosts = [
        existing[0] | {"window_start": NOON + timedelta(hours=1), "window_end": NOON + timedelta(hours=1, minutes=1)},
        existing[0] | {"symbol": "GONEUSDT"},
    ]
    lake.table(GOLD_OHLCV_1M).delete(EqualTo("exchange", "binance"))
    lake.append(GOLD_OHLCV_1M, wrong + ghosts)

    lake.candles_refresh().replace_day()

    assert as_it_stands(lake) == candles_by_hand(rows)


def test_an_empty_rebuilt_day_commits_nothing(lake: SmallLake) -> None:
    before = lake.metadata_location(GOLD_OHLCV_1M)

    assert lake.candles_refresh().replace_day().windows_computed == 0
    assert lake.candles_refresh().take_in_news().windows_computed == 0

    assert lake.metadata_location(GOLD_OHLCV_1M) == before


def test_a_window_whose_trades_went_away_goes_with_them(lake: SmallLake) -> None:
    rows = trades_of(range(1, 10), 60)
    lake.append(GOLD_TRADES, rows)
    lake.candles_refresh().take_in_news()
    gold = lake.table(GOLD_TRADES)
    gold.delete(EqualTo("source_sequence", 5))  # the day's file is written again without it

    refresh_all(lake)

    left = [row for row in rows if row["source_sequence"] != 5]
    assert every_timeframe(lake) == every_timeframe_by_hand(left)


def test_an_hour_whose_only_minute_went_away_goes_with_it(lake: SmallLake) -> None:
    rows = [a_trade(1), a_trade(2, 7_200), a_trade(3, 2 * 86_400)]
    lake.append(GOLD_TRADES, rows)
    refresh_all(lake)
    lake.table(GOLD_TRADES).delete(EqualTo("source_sequence", 2))
    lake.candles_refresh().replace_day()

    refresh_all(lake)

    assert every_timeframe(lake) == every_timeframe_by_hand([rows[0], rows[2]])


def test_a_long_backlog_is_taken_in_several_commits(lake: SmallLake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refresh_candles, "_BATCH_ROWS", 10)
    rows = trades_of(range(1, 40), 13)
    for first in range(0, len(rows), 10):
        lake.append(GOLD_TRADES, rows[first : first + 10])

    lake.candles_refresh().take_in_news()

    assert as_it_stands(lake) == candles_by_hand(rows)
    assert lake.snapshots(GOLD_OHLCV_1M) > 3


def test_from_silver_to_candles_a_repeat_changes_nothing(lake: SmallLake) -> None:
    rows = trades_of(range(1, 30), 11)
    for repeat in range(2):
        lake.append(SILVER, [row | {"kafka_offset": 100 * repeat + n} for n, row in enumerate(rows)])
        lake.trades_refresh().take_in_news()
        lake.candles_refresh().take_in_news()
        if repeat == 0:
            gold, candles = lake.gold(), lake.candles()
    assert lake.gold() == gold
    assert lake.candles() == candles
