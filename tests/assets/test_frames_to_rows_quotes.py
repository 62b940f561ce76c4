"""Frames with quotes on their way to silver: every venue's, whatever is unusual about them."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2_assets.decode.row_rules import conditions
from k2_assets.silver import checks
from k2_core.quotes import VenueQuote, condition, message_id, quote_id
from k2_core.trades import PRICE_PRECISION, PRICE_SCALE
from k2_core.venues import VENUES
from tests.assets.frames import NOON_NS, a_frame, a_quote_frame, refined_frames, refined_quotes
from tests.core.venue_frames import coinbase_quote, coinbase_quotes, kraken_quote, kraken_quotes

NOON = datetime(2024, 8, 9, 12, tzinfo=UTC)
LATER_NS = 1_775_572_203_000_000_000  # 2026-04-07T14:30:03Z, after the quotes of Kraken and Coinbase
PRICES = st.one_of(st.none(), st.sampled_from(["1", "1.0", "1.000000000001", "2", "999999999999999"]))


def test_binances_quote_is_stamped_at_its_receipt_and_keeps_u_and_its_numbers() -> None:
    made = refined_quotes(a_quote_frame(50093239212), a_quote_frame(50093239213, B="0.00000001"))

    first, second = made.silver.to_pylist()
    assert (first["quote_id"], first["source_sequence"]) == ("50093239212", 50093239212)
    assert first["message_id"] == message_id("binance", "BTCUSDT", "50093239212")
    assert first["timestamp"] == first["ingestion_timestamp"] == NOON
    assert (first["received_ns"], second["received_ns"]) == (NOON_NS, NOON_NS + 1)
    assert (first["bid_price"], first["bid_quantity"]) == (Decimal("61837.630000000000"), Decimal("3.78826000"))
    assert (first["ask_price"], first["ask_quantity"]) == (Decimal("61837.640000000000"), Decimal("1.54698000"))
    assert second["bid_quantity"] == Decimal("0.00000001")
    assert (first["symbol"], first["exchange"], first["currency"]) == ("BTCUSDT", "binance", "USDT")
    assert first["kafka_topic"] == "market.crypto.quotes.binance.raw"
    assert first["vendor_data"] == []
    assert [int(us) for us in made.first_event_us] == [NOON_NS // 1000] * 2


def test_quotes_of_kraken_and_coinbase_have_the_venues_time_and_an_id_of_what_they_say() -> None:
    kraken = refined_quotes(
        kraken_quotes(kraken_quote(symbol='"XBT/USD"', bid="1.05e-7", ask="1E-6"), kraken_quote(symbol='"ETH/USD"')),
        venue=VENUES["kraken"],
        received_ns=LATER_NS,
    )
    coinbase = refined_quotes(coinbase_quotes(coinbase_quote()), venue=VENUES["coinbase"], received_ns=LATER_NS)

    first, second = kraken.silver.to_pylist()
    assert (first["bid_price"], first["symbol"]) == (Decimal("0.000000105000"), "BTCUSD")
    assert [row["frame_index"] for row in (first, second)] == [0, 1]
    assert first["timestamp"] == datetime(2022, 12, 25, 9, 30, 59, 123456, tzinfo=UTC)
    assert first["quote_id"] == quote_id("2022-12-25T09:30:59.123456Z", "1.05e-7", "2.5", "1E-6", "3.2")
    assert first["source_sequence"] is None
    (row,) = coinbase.silver.to_pylist()
    assert row["timestamp"] == datetime(2026, 4, 7, 14, 30, 2, 789012, tzinfo=UTC)
    assert dict(row["vendor_data"]) == {"published_us": str(int(row["timestamp"].timestamp() * 1e6))}
    assert kraken.rejected.num_rows == coinbase.rejected.num_rows == 0


def test_crossed_locked_one_sided_and_empty_quotes_are_kept_and_flagged() -> None:
    nothing = "0.00000000"
    frames = {
        "crossed": a_quote_frame(1, b="61837.65"),
        "locked": a_quote_frame(2, b="61837.640"),
        "one_sided": a_quote_frame(3, a=nothing, A=nothing),
        "empty": a_quote_frame(4, b=nothing, B=nothing, a=nothing, A=nothing),
    }
    made = refined_quotes(*frames.values(), a_quote_frame(5))

    rows = made.silver.to_pylist()
    assert [dict(row["vendor_data"]).get("condition") for row in rows] == [*frames, None]
    assert (rows[2]["ask_price"], rows[2]["ask_quantity"]) == (None, None)
    assert rows[2]["bid_price"] == Decimal("61837.63")
    assert [rows[3][name] for name in ("bid_price", "bid_quantity", "ask_price", "ask_quantity")] == [None] * 4
    assert made.rejected.num_rows == 0
    judged = pl.from_arrow(made.silver.select(checks.JUDGED["quotes"]))
    assert isinstance(judged, pl.DataFrame)
    assert checks.faults(judged, "quotes").is_empty()


@given(st.lists(st.tuples(PRICES, PRICES), min_size=1, max_size=8))
def test_conditions_of_many_are_those_of_each(sides: list[tuple[str | None, str | None]]) -> None:
    decimal = pl.Decimal(PRICE_PRECISION, PRICE_SCALE)
    bids, asks = (pl.Series([side[place] for side in sides], dtype=pl.String).cast(decimal) for place in (0, 1))
    quotes = [VenueQuote("BTCUSDT", "1", 1, bid, bid and "1", ask, ask and "1", None, None) for bid, ask in sides]

    assert conditions(bids, asks) == [condition(quote) for quote in quotes]


@pytest.mark.parametrize(
    ("reason", "fields"),
    [
        ("missing_field", {"u": None}),
        ("wrong_type", {"u": "1"}),
        ("missing_field", {"b": None}),
        ("price_not_positive", {"b": "0", "B": "1"}),
        ("wrong_type", {"a": "1,5"}),
        ("price_not_positive", {"b": "-0.5"}),
        ("quantity_not_positive", {"A": "-1"}),
        ("number_out_of_range", {"b": "0.0000000000001"}),
        ("unknown_symbol", {"s": "BTCXYZ"}),
        ("timestamp_in_future", {"T": (NOON_NS + 301 * 10**9) // 1_000_000}),
    ],
)
def test_a_bad_quote_is_rejected_alone_with_its_reason_and_its_bytes(reason: str, fields: dict[str, object]) -> None:
    bad = a_quote_frame(2, **fields)
    made = refined_quotes(a_quote_frame(1), bad, a_quote_frame(3))

    assert made.silver["source_sequence"].to_pylist() == [1, 3]
    (row,) = made.rejected.to_pylist()
    assert (row["reason"], row["payload"], row["kafka_offset"]) == (reason, bad, 1)


def test_a_quote_before_the_first_day_that_is_kept_is_rejected() -> None:
    early = kraken_quotes(kraken_quote(timestamp='"2009-12-31T23:59:59.999999Z"'))
    stamped = refined_quotes(a_quote_frame(1), received_ns=NOON_NS // 1000)  # by a feed whose clock is wrong

    for made in (refined_quotes(early, venue=VENUES["kraken"]), stamped):
        assert made.silver.num_rows == 0
        assert made.rejected["reason"].to_pylist() == ["number_out_of_range"]


def test_control_frames_are_no_rows_and_a_trade_among_quotes_is_kept_as_rejected() -> None:
    made = refined_quotes(b'{"result":null,"id":1}', a_frame(), a_quote_frame())

    assert made.control_frames == 1
    assert made.rejected["reason"].to_pylist() == ["unknown_event"]
    assert made.silver.num_rows == 1


def test_many_quotes_of_mixed_sides_keep_their_order_and_numbers() -> None:
    sides = [("1", "2"), (None, "3"), ("4", None), ("5.5", "5.5"), ("1e3", "7")]
    frames = [a_quote_frame(n, b=bid, B=bid and "1", a=ask, A=ask and "1") for n, (bid, ask) in enumerate(sides)]
    rows = refined_quotes(*frames).silver.to_pylist()

    assert [(row["bid_price"], row["ask_price"]) for row in rows] == [
        (bid and Decimal(bid), ask and Decimal(ask)) for bid, ask in sides
    ]
    assert rows[-1]["timestamp"] - rows[0]["timestamp"] < timedelta(seconds=1)


def test_a_bad_quote_that_no_feed_could_read_says_among_trades_what_is_wrong_with_it() -> None:
    made = refined_frames(a_frame(1), a_quote_frame(2, u=None), a_quote_frame(3), a_quote_frame(4, e="depth"))

    assert made.rejected["reason"].to_pylist() == ["unknown_event"] * 3
    reported = made.rejected["error"].to_pylist()
    assert ["missing_field: field u" in error for error in reported] == [True, False, False]
    assert made.silver["source_sequence"].to_pylist() == [1]
