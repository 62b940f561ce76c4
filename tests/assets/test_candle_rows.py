from datetime import timedelta
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from k2_assets.gold.candle_rows import TRADE_COLUMNS, Span, candles
from k2_assets.gold.refresh_candles import merge
from k2_assets.gold.row_checks import broken_invariants
from k2_core import clock
from k2_core.lake.tables import GOLD_TRADES
from k2_core.timeframes import MINUTE_US
from tests.assets.by_hand import candles_by_hand, contents
from tests.assets.lakes import NOON, Row, a_trade, to_arrow, trades_of

PRICES = st.one_of(
    st.decimals("0.000000000001", "9999999999999999", places=12),
    st.sampled_from([Decimal("0.01"), Decimal(100), Decimal("100.000000000001"), Decimal("100.000000000002")]),
)
QUANTITIES = st.decimals("0.00000001", "1000000", places=8)
DAY_START = NOON.replace(hour=0)


@st.composite
def many_trades(draw: st.DrawFn) -> list[Row]:
    """Trades of two symbols with holes, out of time order now and then, within some minutes."""
    rows = []
    for symbol in ("BTCUSDT", "ETHUSDT"):
        ids = draw(st.lists(st.integers(1, 30), max_size=12, unique=True))
        for number in ids:
            second = draw(st.one_of(st.just(number * 10), st.integers(0, 400)))
            price, quantity = str(draw(PRICES)), str(draw(QUANTITIES))
            rows.append(a_trade(number, second, price=price, quantity=quantity, symbol=symbol))
    return rows


def frame(rows: list[Row]) -> pl.DataFrame:
    made = pl.from_arrow(to_arrow(GOLD_TRADES, rows).select(list(TRADE_COLUMNS)))
    assert isinstance(made, pl.DataFrame)
    return made


def whole(rows: list[Row]) -> list[Span]:
    start = clock.to_us(DAY_START)
    return [
        Span("binance", symbol, start, start + 2 * 86_400_000_000) for symbol in sorted({r["symbol"] for r in rows})
    ]


def built(rows: list[Row]) -> list[Row]:
    found: list[Row] = candles(frame(rows), whole(rows), MINUTE_US).to_dicts()
    return found


def proofs(rows: list[Row]) -> list[tuple[int, bool, int]]:
    """(minute after noon, is_complete, missing_trades) of every candle in order."""
    found = sorted(built(rows), key=lambda row: row["window_start"])
    return [
        ((row["window_start"] - NOON) // timedelta(minutes=1), row["is_complete"], row["missing_trades"])
        for row in found
    ]


@given(many_trades())
@settings(max_examples=150)
def test_candles_are_what_their_definition_says(rows: list[Row]) -> None:
    assert contents(built(rows)) == candles_by_hand(rows)


@given(many_trades())
def test_candles_keep_their_invariants(rows: list[Row]) -> None:
    assert broken_invariants(candles(frame(rows), whole(rows), MINUTE_US)) == {}


@given(many_trades(), st.randoms(use_true_random=False))
def test_candles_do_not_depend_on_the_order_of_rows(rows: list[Row], random: object) -> None:
    shuffled = sorted(rows, key=lambda row: hash((str(random), row["message_id"])))

    assert contents(built(shuffled)) == contents(built(rows))


def test_vwap_rounds_half_to_even_once() -> None:
    def vwap(low: str, high: str) -> Decimal:
        (candle,) = built([a_trade(1, price=low), a_trade(2, price=high)])
        found: Decimal = candle["vwap"]
        return found

    assert vwap("1.000000000000", "1.000000000001") == Decimal("1.000000000000")
    assert vwap("1.000000000001", "1.000000000002") == Decimal("1.000000000002")
    assert vwap("1.000000000001", "1.000000000003") == Decimal("1.000000000002")


def test_sums_beyond_the_range_of_int128_stay_exact() -> None:
    price, quantity = "9999999999999999.999999999999", "99999999999999999999.99999999"
    rows = [a_trade(n, n, price=price, quantity=quantity) for n in range(1, 5)]
    rows += [a_trade(9, 70, price="1", quantity="2")]

    large, small = sorted(built(rows), key=lambda row: row["window_start"])

    assert large["quote_volume"] is None
    assert large["volume"] == Decimal("399999999999999999999.99999996")
    assert large["vwap"] == Decimal(price)
    assert (small["quote_volume"], small["volume"], small["vwap"]) == (2, 2, 1)


def test_quote_volume_is_kept_up_to_eighteen_whole_digits() -> None:
    (fits,) = built([a_trade(1, price="999999999999", quantity="999999.99999999")])
    (beyond,) = built([a_trade(1, price="1000000000000", quantity="1000000")])

    assert fits["quote_volume"] == Decimal(999999999999) * Decimal("999999.99999999")
    assert beyond["quote_volume"] is None


def test_open_and_close_are_by_time_then_id() -> None:
    rows = [
        a_trade(10, 5, price="10"),
        a_trade(9, 5, price="9"),
        a_trade(11, 1, price="11"),
        a_trade(2, 5, price="2"),
    ]

    (candle,) = built(rows)

    assert (candle["open_price"], candle["close_price"]) == (11, 10)
    assert (candle["first_trade_id"], candle["last_trade_id"]) == ("11", "10")


def test_windows_at_the_edges_are_not_proved() -> None:
    assert proofs(trades_of(range(1, 7), 30)) == [(0, False, 0), (1, True, 0), (2, False, 0)]
    assert proofs([a_trade(1)]) == [(0, False, 0)]


def test_a_hole_inside_marks_its_window_alone() -> None:
    assert proofs(trades_of([1, 2, 3, 4, 6, 7, 8], 20)) == [(0, False, 0), (1, False, 1), (2, False, 0)]


def test_a_hole_on_a_boundary_marks_both_windows() -> None:
    rows = [a_trade(1, 0), a_trade(2, 61), a_trade(3, 70), a_trade(6, 121), a_trade(7, 130), a_trade(8, 181)]

    assert proofs(rows) == [(0, False, 0), (1, False, 2), (2, False, 2), (3, False, 0)]


def test_ids_out_of_time_order_are_no_hole() -> None:
    rows = [a_trade(1, 0), a_trade(3, 62), a_trade(2, 66), a_trade(5, 119), a_trade(4, 121), a_trade(6, 181)]

    assert proofs(rows) == [(0, False, 0), (1, True, 0), (2, True, 0), (3, False, 0)]


def test_an_id_that_stands_in_a_neighbour_is_not_missing() -> None:
    """Id 4 happened after 5 and across the boundary; it counts in whichever window it is."""
    rows = [a_trade(1, 0), a_trade(2, 61), a_trade(3, 62), a_trade(5, 122), a_trade(4, 123)]
    rows += [a_trade(6, 185), a_trade(7, 245)]

    assert proofs(rows)[1:4] == [(1, True, 0), (2, True, 0), (3, True, 0)]


def test_empty_minutes_between_have_no_candle_and_break_no_proof() -> None:
    rows = [a_trade(1, 0), a_trade(2, 60), a_trade(3, 600), a_trade(4, 1200)]

    assert proofs(rows) == [(0, False, 0), (1, True, 0), (10, True, 0), (20, False, 0)]


def test_the_proof_goes_over_midnight_and_empty_days() -> None:
    day = 86_400
    rows = [a_trade(1, -day * 3), a_trade(2, 0), a_trade(3, day), a_trade(4, day * 5)]

    found = candles(frame(rows), whole(rows), MINUTE_US).sort("window_start")

    assert found["window_start"].to_list() == [NOON, NOON + timedelta(days=1)]
    assert found["is_complete"].to_list() == [True, True]


def test_spans_alone_are_computed_by_what_lies_around_them() -> None:
    rows = trades_of(range(1, 20), 30)
    start = clock.to_us(NOON)
    span = Span("binance", "BTCUSDT", start + 2 * MINUTE_US, start + 4 * MINUTE_US)

    found = contents(candles(frame(rows), [span], MINUTE_US).to_dicts())

    expected = candles_by_hand(rows)
    assert found == {key: expected[key] for key in expected if 2 <= (key[1] - NOON) / timedelta(minutes=1) < 4}
    assert len(found) == 2


def test_spans_without_a_trade_give_no_candle() -> None:
    rows = [a_trade(1)]
    quiet = Span("binance", "BTCUSDT", 0, MINUTE_US)
    unknown = Span("binance", "XYZUSDT", 0, MINUTE_US)

    assert candles(frame(rows), [quiet], MINUTE_US).is_empty()
    assert candles(frame(rows), [unknown], MINUTE_US).is_empty()
    assert candles(frame(rows), [], MINUTE_US).is_empty()
    assert candles(frame(rows), [], MINUTE_US).schema == candles(frame(rows), whole(rows), MINUTE_US).schema


@pytest.mark.parametrize("changed", [True, False])
def test_merge_keeps_created_at_and_moves_updated_at_on_change_alone(changed: bool) -> None:
    rows = trades_of(range(1, 10), 30)
    early, late = NOON, NOON + timedelta(hours=1)
    first = candles(frame(rows), whole(rows), MINUTE_US)
    existing = merge(merge_nothing(first), first, pl.lit(early))
    rows[4]["price"] += Decimal(1) if changed else Decimal(0)

    merged = merge(existing, candles(frame(rows), whole(rows), MINUTE_US), pl.lit(late)).sort("window_start")

    assert set(merged["created_at"]) == {early}
    assert [moment == late for moment in merged["updated_at"]] == [changed and n == 2 for n in range(5)]


def merge_nothing(like: pl.DataFrame) -> pl.DataFrame:
    times = pl.lit(NOON).cast(pl.Datetime("us", "UTC"))
    return like.clear().with_columns(times.alias("created_at"), times.alias("updated_at"))


def test_merge_keeps_windows_that_were_not_computed() -> None:
    rows = trades_of(range(1, 10), 30)
    computed = candles(frame(rows), whole(rows), MINUTE_US)
    existing = merge(merge_nothing(computed), computed, pl.lit(NOON))

    merged = merge(existing, computed.head(1), pl.lit(NOON))

    assert merged.sort("window_start").equals(existing.sort("window_start"))
