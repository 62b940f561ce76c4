from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2_core import clock, topics
from k2_core.instruments import instrument, split_by_suffix
from k2_core.offsets import PROPERTY, Offsets

KEYS = st.tuples(st.sampled_from(["topic-a", "topic-b", "topic-c"]), st.integers(0, 12))
VECTORS = st.dictionaries(KEYS, st.integers(0, 1 << 62)).map(Offsets)
MOMENTS = st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001


@given(VECTORS)
def test_offsets_survive_their_properties(vector: Offsets) -> None:
    assert Offsets.from_properties({"other": "x", **vector.to_properties()}) == vector
    assert set(vector.to_properties()) == {PROPERTY}


@given(VECTORS, VECTORS)
def test_offsets_advance_only_the_partitions_that_moved(standing: Offsets, moved: Offsets) -> None:
    after = standing.advanced(moved)
    keys = {key for key, _ in moved.items()}

    assert after.only(keys) == moved
    assert after.only({key for key, _ in standing.items()} - keys) == standing.only(
        {key for key, _ in standing.items()} - keys
    )


def test_offsets_of_a_table_without_a_vector_are_empty() -> None:
    assert not Offsets.from_properties({})
    assert Offsets.from_properties({}).get("topic", 0) is None


def test_offsets_of_a_topic_made_again_stand_beside_the_old_ones() -> None:
    vector = Offsets({("old", 0): 9}).advanced(Offsets({("new", 0): 1}))

    assert (vector.get("old", 0), vector.get("new", 0)) == (9, 1)


@given(MOMENTS)
def test_clock_keeps_every_microsecond(moment: datetime) -> None:
    assert clock.from_us(clock.to_us(moment)) == moment


def test_clock_writes_utc_whatever_the_zone() -> None:
    moment = datetime(2024, 8, 9, 2, 0, tzinfo=timezone(timedelta(hours=2)))

    assert clock.iso(moment) == "2024-08-09T00:00:00.000000Z"
    assert clock.to_us(moment) == 1_723_161_600_000_000


def test_clock_gives_one_time_in_every_unit() -> None:
    before = clock.now_ns()
    us, moment = clock.now_us(), clock.now()
    after = clock.now_ns()

    assert before // 1000 <= us <= clock.to_us(moment) <= after // 1000
    assert clock.monotonic() <= clock.monotonic()


@pytest.mark.parametrize("bad", ["Trades", "trades.x", ""])
def test_raw_topic_refuses_what_is_no_name_of_a_venue(bad: str) -> None:
    assert topics.raw_topic("crypto", "trades", "binance") == "market.crypto.trades.binance.raw"
    with pytest.raises(ValueError, match="is not a topic of raw frames"):
        topics.raw_topic("crypto", "trades", bad)


def test_topics_keep_replayed_recordings_by_the_brokers_time() -> None:
    assert topics.topic_settings(7)["message.timestamp.type"] == "LogAppendTime"
    assert topics.topic_settings(7)["retention.ms"] == str(7 * 24 * 3600 * 1000)


@pytest.mark.parametrize(
    ("base", "quote", "symbol"), [("xbt", "usd", "BTCUSD"), ("XDG", "EUR", "DOGEEUR"), ("btc", "USDT", "BTCUSDT")]
)
def test_instrument_is_spelled_in_modern_codes(base: str, quote: str, symbol: str) -> None:
    assert instrument(base, quote).symbol == symbol


def test_split_takes_the_longest_quote_that_leaves_a_base() -> None:
    assert split_by_suffix("ETHFDUSD", ("USD", "FDUSD")) == instrument("ETH", "FDUSD")
    assert split_by_suffix("FDUSD", ("USD", "FDUSD")) == instrument("FD", "USD")
