from decimal import Decimal
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from k2_assets.decode.bronze_rows import frames_of_bronze
from k2_assets.decode.frames_to_rows import NO_TIME, refine
from k2_assets.kafka.writer_schema import WriterSchema
from k2_assets.silver import checks
from k2_core.errors import MalformedFrame
from k2_core.trades import FIRST_DAY_US, MAX_FUTURE_NS, REASONS, check_number, exact, message_id
from k2_core.venues import binance
from k2_core.venues.venue_protocol import Venue
from tests.assets.frames import (
    NOON_MS,
    NOON_NS,
    REJECTED,
    SCHEMAS,
    SILVER,
    TOPIC,
    UNKNOWN,
    a_frame,
    an_envelope,
    an_evolved_envelope,
    refine_all,
    refined,
    refined_frames,
)
from tests.venue_builder import a_venue

CONTROL = b'{"result":null,"id":1}'
BAD = {
    "not_confluent_avro": b"\x01nonsense",
    "unknown_schema": an_envelope(a_frame(), schema_id=UNKNOWN),
    "malformed_envelope": an_envelope(a_frame())[:-3],
    "malformed_json": an_envelope(a_frame()[:-3]),
    "unknown_event": an_envelope(a_frame(e="aggTrade")),
    "missing_field": an_envelope(a_frame(p=None)),
    "wrong_type": an_envelope(a_frame(p=[1])),
    "price_not_positive": an_envelope(a_frame(p="0.000")),
    "quantity_not_positive": an_envelope(a_frame(q="-1")),
    "number_out_of_range": an_envelope(a_frame(q="0.123456789")),
    "timestamp_in_future": an_envelope(a_frame(T=NOON_MS + MAX_FUTURE_NS // 1_000_000 + 1)),
    "unknown_symbol": an_envelope(a_frame(s="BTCXYZ")),
}
VALUES = st.one_of(
    st.sampled_from(list(BAD.values())),
    st.just(an_envelope(CONTROL)),
    st.builds(an_envelope, st.integers(0, 99).map(a_frame), st.integers(0, 99)),
    st.builds(an_evolved_envelope, st.integers(0, 99).map(a_frame)),
    st.binary(max_size=60).map(an_envelope),
    st.binary(max_size=60),
)
# What decodes below must not ask for a schema that the registry was never asked for.
READABLE = VALUES.filter(lambda value: len(value) < 5 or value[0] != 0 or int.from_bytes(value[1:5], "big") in SCHEMAS)


def as_rows(table: pa.Table) -> list[dict[str, Any]]:
    return sorted(table.to_pylist(), key=lambda row: (row["kafka_offset"], row["frame_index"]))


def prices_of(table: pa.Table) -> list[Decimal]:
    return [row["price"] for row in as_rows(table)]


def test_every_reason_is_reached_by_a_frame_and_keeps_its_bytes() -> None:
    _, made = refined(*BAD.values())
    rows = as_rows(made.rejected)

    assert set(BAD) == set(REASONS) - {"parser_failed", "not_storable"}  # which no frame is known to reach
    assert [row["reason"] for row in rows] == list(BAD)
    assert made.silver.num_rows == 0
    for row, value in zip(rows, BAD.values(), strict=True):
        assert row["error"]
        assert value.endswith(row["payload"])
        assert (row["received_ns"] is None) == (row["payload"] == value)


def test_a_trade_becomes_a_canonical_row_that_knows_where_it_came_from() -> None:
    bronze, made = refined(an_envelope(CONTROL), an_envelope(a_frame(7), 1, NOON_NS + 1999))
    (row,) = as_rows(made.silver)

    assert row["message_id"] == message_id("binance", "BTCUSDT", "7")
    assert (row["trade_id"], row["source_sequence"], row["symbol"], row["exchange"]) == ("7", 7, "BTCUSDT", "binance")
    assert (row["price"], row["quantity"], row["currency"], row["side"]) == (
        Decimal("61837.63"),
        Decimal("0.02"),
        "USDT",
        "SELL",
    )
    assert row["timestamp"].timestamp() * 1000 == NOON_MS
    assert row["ingestion_timestamp"].microsecond == 1
    assert (row["kafka_topic"], row["topic_id"], row["kafka_partition"], row["kafka_offset"], row["frame_index"]) == (
        TOPIC.name,
        TOPIC.topic_id,
        0,
        1,
        0,
    )
    assert row["platform_sequence"] == 1
    assert dict(row["vendor_data"]) == {"published_us": str((NOON_MS + 1) * 1000)}
    assert made.control_frames == 1
    assert bronze["min_event_ts"].to_pylist() == [None, row["timestamp"]]
    assert bronze["payload"].to_pylist() == [CONTROL, a_frame(7)]


def test_no_frames_give_no_rows() -> None:
    bronze, made = refined()

    assert (bronze.num_rows, made.silver.num_rows, made.rejected.num_rows) == (0, 0, 0)
    assert made.silver.schema == SILVER


@given(st.lists(READABLE, max_size=15))
@settings(max_examples=60)
def test_silver_is_a_function_of_bronze(values: list[bytes]) -> None:
    bronze, first = refined(*values)

    again = refine(frames_of_bronze(bronze, lambda _: SCHEMAS), binance, SILVER, REJECTED)

    assert as_rows(again.silver) == as_rows(first.silver)
    assert as_rows(again.rejected) == as_rows(first.rejected)
    assert again.control_frames == first.control_frames
    frames = {row["kafka_offset"] for table in (first.silver, first.rejected) for row in table.to_pylist()}
    assert len(frames) + first.control_frames == bronze.num_rows == len(values)


@given(st.lists(st.booleans(), max_size=40), st.randoms(use_true_random=False))
@settings(max_examples=40)
def test_good_trades_between_bad_ones_all_arrive(is_good: list[bool], random: Any) -> None:
    values = [
        an_envelope(a_frame(number)) if good else random.choice(list(BAD.values()))
        for number, good in enumerate(is_good)
    ]

    _, made = refined(*values)

    assert sorted(made.silver["source_sequence"].to_pylist()) == [n for n, good in enumerate(is_good) if good]
    assert made.rejected.num_rows == is_good.count(False)


def test_a_frame_stays_rejected_when_the_registry_learns_its_schema_later() -> None:
    bronze, first = refined(an_envelope(a_frame(), schema_id=UNKNOWN), an_envelope(a_frame()))
    learned = {**SCHEMAS, UNKNOWN: WriterSchema(SCHEMAS[1].text)}

    again = refine(frames_of_bronze(bronze, lambda _: learned), binance, SILVER, REJECTED)

    assert [row["reason"] for row in as_rows(again.rejected)] == ["unknown_schema"]
    assert as_rows(again.silver) == as_rows(first.silver)


def test_why_a_frame_was_not_read_is_asked_of_bronze_and_not_of_the_registry() -> None:
    unread = [an_envelope(a_frame(), schema_id=UNKNOWN), b"no envelope", an_envelope(a_frame())[:-3]]
    bronze, first = refined(*unread, an_envelope(a_frame()))
    place = bronze.schema.get_field_index("unread")
    from_before = bronze.set_column(place, bronze.schema.field(place), pa.nulls(4, pa.large_string()))

    again = refine(frames_of_bronze(bronze, lambda _: pytest.fail("the registry is asked")), binance, SILVER, REJECTED)
    older = refine(frames_of_bronze(from_before, lambda _: SCHEMAS), binance, SILVER, REJECTED)

    assert as_rows(first.rejected) == as_rows(again.rejected) == as_rows(older.rejected)
    assert bronze["unread"].to_pylist()[3] is None


def test_one_poisonous_message_does_not_keep_others_from_bronze() -> None:
    poison = [
        b"",
        b"\0\xff\xff\xff\xff" + b"\xff" * 30,
        an_envelope(a_frame(E=10**30)),
        an_envelope(a_frame(t=10**30)),
        an_envelope(a_frame(T=10**18)),
        an_envelope(a_frame(s="\ud800USDT".encode("utf-16", "surrogatepass").decode("latin-1"))),
        an_envelope(b"[" * 100_000),
        an_envelope(a_frame())[:14] + b"\xff" * 9 + b"\x7f" + an_envelope(a_frame())[15:],
        an_evolved_envelope(a_frame(), received_ns=(1 << 63) - 1),
    ]
    schemas = {**SCHEMAS, 0xFFFFFFFF: WriterSchema(None)}

    bronze, made = refined(*poison, an_envelope(a_frame(5)), schemas=schemas)

    assert bronze.num_rows == len(poison) + 1
    assert made.silver["trade_id"].to_pylist() == ["5"]
    assert made.rejected.num_rows == len(poison)


def breaking(fault: str) -> Venue:
    """Binance, but with a fault that frames of the symbol ODDUSDT or the price 13 bring out."""

    def parse(payload: bytes) -> Any:
        found = binance.parse(payload)
        odd = bool(found) and found[0].price == "13"
        if odd and fault == "parse":
            raise KeyError("p")
        if odd and fault == "trade":
            return [structs.replace(found[0], sequence=1 << 64)]
        return 5 if odd and fault == "answer" else found

    def instrument_of(symbol: str) -> Any:
        if fault == "symbol" and symbol == "ODDUSDT":
            raise ZeroDivisionError
        return binance.instrument_of(symbol)

    return a_venue(parse=parse, instrument_of=instrument_of)


@pytest.mark.parametrize("fault", ["parse", "trade", "answer", "symbol"])
def test_a_frame_on_which_our_own_code_breaks_is_rejected_and_its_neighbours_arrive(fault: str) -> None:
    odd = {3, 4, 11, 29}
    payloads = [a_frame(n, p="13", s="ODDUSDT") if n in odd else a_frame(n) for n in range(30)]
    payloads[7] = CONTROL
    values = [an_envelope(payload, seq) for seq, payload in enumerate(payloads)]
    values[20] = b"nonsense"
    bronze, _ = refined(*values)

    made = refine_all(frames_of_bronze(bronze, lambda _: SCHEMAS), breaking(fault))

    rejected = {row["kafka_offset"]: row for row in as_rows(made.rejected)}
    assert {at: row["reason"] for at, row in rejected.items()} == {
        **dict.fromkeys(odd, "parser_failed"),
        20: "not_confluent_avro",
    }
    assert all(rejected[at]["payload"] == payloads[at] and rejected[at]["error"] for at in odd)
    assert set(made.silver["kafka_offset"].to_pylist()) == set(range(30)) - odd - {7, 20}
    assert made.control_frames == 1
    assert [at for at, us in enumerate(made.first_event_us.tolist()) if us == NO_TIME] == sorted({*odd, 7, 20})


def test_an_error_is_cut_to_what_a_person_reads_and_the_bytes_are_not() -> None:
    payload = a_frame(p="x" * 1_000_000)

    (row,) = as_rows(refined_frames(payload).rejected)

    assert len(row["error"]) < 600
    assert row["payload"] == payload


NUMBERS = st.one_of(
    st.decimals(allow_nan=False, allow_infinity=False).map(str),
    st.decimals("0.000000000001", "9999999999999999", places=12, allow_nan=False).map(str),
    st.builds(
        lambda whole, part, zeros: f"{whole}.{part}" + "0" * zeros,
        st.integers(0, 10**17),
        st.integers(0, 10**12),
        st.integers(0, 9),
    ),
    st.text("0123456789.eE+-_ nN", max_size=12),
)


@given(st.lists(NUMBERS, min_size=1, max_size=10))
@settings(max_examples=150)
def test_a_price_is_exact_or_rejected_and_never_rounded(texts: list[str]) -> None:
    made = refined_frames(*(a_frame(number, p=text) for number, text in enumerate(texts)))
    prices = {row["source_sequence"]: row["price"] for row in made.silver.to_pylist()}
    reasons = {row["kafka_offset"]: row["reason"] for row in made.rejected.to_pylist()}

    for number, text in enumerate(texts):
        try:
            check_number("price", text, 28, 12)
        except MalformedFrame as error:
            assert reasons[number] == error.reason  # noqa: PT017  # most texts raise, not all
            assert number not in prices
        else:
            assert prices[number] == exact(text)
            assert number not in reasons


@pytest.mark.parametrize(
    ("text", "price"),
    [
        ("0.1000000000000000000000", "0.1"),
        ("1.0000000000000", "1"),
        ("0000000000000000000000061837.63", "61837.63"),
        ("9999999999999999.999999999999", "9999999999999999.999999999999"),
        ("1E2", "100"),
        (".5", "0.5"),
    ],
)
def test_a_price_that_fits_is_taken_however_it_is_written(text: str, price: str) -> None:
    assert prices_of(refined_frames(a_frame(p=text)).silver) == [Decimal(price)]


def test_a_trade_five_minutes_ahead_is_taken_and_one_beyond_is_not() -> None:
    edge_ms = NOON_MS + MAX_FUTURE_NS // 1_000_000

    made = refined_frames(a_frame(1, T=edge_ms), a_frame(2, T=edge_ms + 1))

    assert made.silver["trade_id"].to_pylist() == ["1"]
    assert made.rejected["reason"].to_pylist() == ["timestamp_in_future"]


def test_a_trade_of_the_first_day_that_is_kept_is_taken_and_one_before_is_not() -> None:
    first_ms = FIRST_DAY_US // 1000

    made = refined_frames(a_frame(1, T=first_ms), a_frame(2, T=first_ms - 1), a_frame(3, T=NOON_MS // 1000))

    assert made.silver["trade_id"].to_pylist() == ["1"]
    assert made.rejected["reason"].to_pylist() == ["number_out_of_range"] * 2


def test_event_times_of_rejected_trades_are_kept_so_that_their_day_can_be_found() -> None:
    made = refined_frames(a_frame(1), a_frame(2, p="-1"), CONTROL, b"{", a_frame(3, T=1 << 61))

    assert made.first_event_us.tolist() == [NOON_MS * 1000, NOON_MS * 1000, NO_TIME, NO_TIME, NO_TIME]
    assert made.last_event_us.tolist() == made.first_event_us.tolist()


def test_silver_passes_its_own_check() -> None:
    made = refined_frames(*(a_frame(number, s=s) for number, s in enumerate(["BTCUSDT", "1INCHBTC", "币安人生USDT"])))
    rows = pl.from_arrow(made.silver.select(checks.JUDGED["trades"]))

    assert isinstance(rows, pl.DataFrame)
    assert rows.height == 3
    assert checks.faults(rows).is_empty()
