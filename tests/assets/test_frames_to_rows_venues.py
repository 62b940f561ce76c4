"""Frames with several trades, of the venues that send them, on their way to silver."""

from decimal import Decimal

import pytest

from k2_assets.decode.bronze_rows import decode_messages
from k2_assets.decode.frames_to_rows import Refined, refine
from k2_core.trades import REASONS, message_id
from k2_core.venues import VENUES
from tests.assets.frames import REJECTED, SCHEMAS, SILVER, TOPIC, an_envelope, messages
from tests.core.venue_frames import coinbase_trade, coinbase_trades, kraken_trade, kraken_trades

AT_NS = 1_775_572_203_000_000_000  # 2026-04-07T14:30:03Z, a moment after the trades


def refined(venue: str, *payloads: bytes) -> Refined:
    return from_kafka(venue, *(an_envelope(payload, received_ns=AT_NS) for payload in payloads))


def from_kafka(venue: str, *values: bytes) -> Refined:
    frames, _ = decode_messages(messages(*values), TOPIC, SCHEMAS)
    return refine(frames, VENUES[venue], SILVER, REJECTED)


def test_every_trade_of_a_frame_becomes_a_row_of_its_own_with_krakens_numbers_exact() -> None:
    first = kraken_trade(symbol='"XBT/USD"', price="1.05e-7", qty="1E+3", trade_id="8")
    made = refined(
        "kraken", kraken_trades(first, kraken_trade(side='"sell"', trade_id="9")), b'{"channel":"heartbeat"}'
    )

    rows = made.silver.to_pylist()
    assert [(row["price"], row["quantity"]) for row in rows] == [
        (Decimal("0.000000105000"), Decimal("1000.00000000")),
        (Decimal("105944.200000000000"), Decimal("0.00027625")),
    ]
    assert [(row["symbol"], row["currency"], row["side"]) for row in rows] == [
        ("BTCUSD", "USD", "BUY"),
        ("BTCUSD", "USD", "SELL"),
    ]
    assert [(row["frame_index"], row["source_sequence"]) for row in rows] == [(0, 8), (1, 9)]
    assert [row["message_id"] for row in rows] == [message_id("kraken", "BTCUSD", each) for each in ("8", "9")]
    assert made.control_frames == 1
    assert made.rejected.num_rows == 0


def test_coinbases_aggressor_is_the_opposite_of_the_side_that_it_names() -> None:
    made = refined("coinbase", coinbase_trades(coinbase_trade(side="BUY"), coinbase_trade(side="SELL", trade_id="9")))

    assert made.silver.column("side").to_pylist() == ["SELL", "BUY"]


@pytest.mark.parametrize(
    ("reason", "kraken", "coinbase"),
    [
        ("missing_field", {"price": "null"}, {"price": None}),
        ("wrong_type", {"price": '"1"'}, {"price": 1}),
        ("wrong_type", {"side": '"SELL"'}, {"price": "1,5"}),
        ("price_not_positive", {"price": "-0.5"}, {"price": "0.00"}),
        ("quantity_not_positive", {"qty": "0e5"}, {"size": "-1"}),
        ("number_out_of_range", {"price": "1e-13"}, {"size": "0.000000001"}),
        ("timestamp_in_future", {"timestamp": '"2026-04-07T14:36:00Z"'}, {"time": "2026-04-07T14:36:00Z"}),
        ("unknown_symbol", {"symbol": '"BTCUSD"'}, {"product_id": "BIT-28JUL23-CDE"}),
    ],
)
def test_a_bad_trade_within_a_frame_is_rejected_alone_and_keeps_its_place(
    reason: str, kraken: dict[str, str], coinbase: dict[str, object]
) -> None:
    frames = {
        "kraken": kraken_trades(kraken_trade(), kraken_trade(**kraken), kraken_trade(trade_id="3")),
        "coinbase": coinbase_trades(coinbase_trade(), coinbase_trade(**coinbase), coinbase_trade(trade_id="3")),
    }
    for venue, frame in frames.items():
        made = refined(venue, frame)
        assert made.silver.column("frame_index").to_pylist() == [0, 2], venue
        (bad,) = made.rejected.to_pylist()
        assert (bad["reason"], bad["frame_index"], bad["payload"]) == (reason, 1, frame)


def test_a_crowd_of_bad_items_stands_whole_and_the_frame_once() -> None:
    good, early = kraken_trade(), kraken_trade(timestamp='"2009-12-31T23:59:59Z"')
    crowd = kraken_trades(good, early, *["1"] * 9_999, early)
    few = kraken_trades(good, "1", early)

    rows = refined("kraken", crowd, few).rejected.to_pylist()

    of_crowd = sorted((row for row in rows if row["kafka_offset"] == 0), key=lambda row: row["frame_index"])
    assert [row["frame_index"] for row in of_crowd] == list(range(1, 10_002))
    assert [row["payload"] for row in of_crowd] == [crowd, *[b""] * 10_000]
    assert [of_crowd[place]["reason"] for place in (0, 1, -1)] == [
        "number_out_of_range",
        "wrong_type",
        "number_out_of_range",
    ]
    assert of_crowd[1]["error"] == "a trade is 1, expected an object; its bytes stand at frame_index 1"
    of_few = [row for row in rows if row["kafka_offset"] == 1]
    assert [row["payload"] for row in of_few] == [few, few]
    assert not any("bytes stand" in row["error"] for row in of_few)


@pytest.mark.parametrize("venue", ["kraken", "coinbase"])
def test_every_reason_of_a_frame_or_an_envelope_is_reached(venue: str) -> None:
    good = {"kraken": kraken_trades(kraken_trade()), "coinbase": coinbase_trades(coinbase_trade())}[venue]
    values = [b"\1", b"\0\0\0\0\x09", an_envelope(good)[:-3], *(an_envelope(each) for each in (good[:-1], b"{}"))]
    made = from_kafka(venue, *values)

    reasons = ["not_confluent_avro", "unknown_schema", "malformed_envelope", "malformed_json", "unknown_event"]
    assert made.rejected.column("reason").to_pylist() == reasons
    assert set(reasons) <= REASONS.keys()
