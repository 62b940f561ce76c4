from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2_api.timestamps import parse_moment
from k2_core.clock import iso

OFFSETS = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
MOMENTS = st.datetimes(min_value=datetime(1971, 1, 1), max_value=datetime(2200, 1, 1))  # noqa: DTZ001  # zone follows


@given(MOMENTS, OFFSETS)
def test_moment_is_the_same_in_every_zone(moment: datetime, zone: timezone) -> None:
    aware = moment.replace(tzinfo=UTC)
    assert parse_moment(iso(aware)) == aware
    assert parse_moment(aware.astimezone(zone).isoformat()) == aware
    assert parse_moment(aware.astimezone(zone).isoformat().replace("+", " ")) == aware


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-08-08", "2024-08-08T00:00:00.000000Z"),
        ("2024-08-08T23:55", "2024-08-08T23:55:00.000000Z"),
        ("2024-08-08 23:55:00", "2024-08-08T23:55:00.000000Z"),
        ("2024-08-08t23:55:00z", "2024-08-08T23:55:00.000000Z"),
        ("2024-08-08T23:55:00.000001001Z", "2024-08-08T23:55:00.000002Z"),
        ("2024-08-08T23:55:00.999999999Z", "2024-08-08T23:55:01.000000Z"),
        ("1723161300123", "2024-08-08T23:55:00.123000Z"),
        ("2024-08-08T23:55:00.5-01:30", "2024-08-09T01:25:00.500000Z"),
    ],
)
def test_moment_may_be_written_shorter(text: str, expected: str) -> None:
    assert iso(parse_moment(text)) == expected


@pytest.mark.parametrize(
    "text",
    ["", "now", "1723161300", "2024-8-8", "2024-02-30", "2024-08-08T24:00", "2024-08-08T23:55:00.1234567891Z",
     "9999999999999999",     "2024-08-08T23:55:00+25:00", "0001-01-01T00:00:00+10:00", "２０２４-08-08"],
)  # fmt: skip
def test_what_is_not_a_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a time"):
        parse_moment(text)


@given(st.text(max_size=40))
def test_any_text_is_a_time_or_refused(text: str) -> None:
    try:
        assert parse_moment(text).tzinfo is UTC
    except ValueError:
        pass
