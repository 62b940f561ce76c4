from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from k2_core import clock

MOMENTS = st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001


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
