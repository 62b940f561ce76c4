from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2_core.clock import from_us
from k2_core.venues.venue_times import canonical_time, microseconds

MOMENTS = st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 31))  # noqa: DTZ001  # hypothesis adds the zone itself


@given(MOMENTS, st.text("0123456789", max_size=12))
def test_microseconds_reads_any_fraction_and_cuts_off_what_is_finer(moment: datetime, digits: str) -> None:
    second = moment.replace(microsecond=0)
    text = f"{second.isoformat()}.{digits}Z" if digits else f"{second.isoformat()}Z"

    found = microseconds(text)
    assert found is not None
    assert from_us(found) == second.replace(microsecond=int(digits[:6].ljust(6, "0") or "0"), tzinfo=UTC)


@given(
    st.text(max_size=40)
    | st.from_regex(r"\A[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.\d*)?(Z|\+00:00)?\Z")
)
def test_microseconds_reads_any_text_or_says_none(text: str) -> None:
    found = microseconds(text)

    if found is None:
        return
    assert found >= 0
    assert microseconds(canonical_time(text)) == found
    assert from_us(found).strftime("%Y-%m-%dT%H:%M:%S") == text[:19].upper()


@pytest.mark.parametrize(
    "text",
    [
        "2026-04-07T14:30:02.120Z",
        "2026-04-07T14:30:02.12+00:00",
        "2026-04-07t14:30:02.12z",
        "2026-04-07t14:30:02.1200000+00:00",
    ],
)
def test_one_time_is_the_same_in_any_form_that_rfc_3339_allows(text: str) -> None:
    assert microseconds(text) == 1_775_572_202_120_000
    assert canonical_time(text) == "2026-04-07T14:30:02.12Z"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Z",
        "2026-04-07T14:30:02",
        "2026-04-07T14:30:02.",
        "2026-04-07T14:30:02.Z",
        "2026-04-07T14:30:02ZZ",
        "2026-04-07T14:30:02.12",
        "2026-04-07T14:30:02.1_2Z",
        "2026-04-07T14:30:02.+12Z",
        "2026-04-07T14:30:02.１Z",
        "2026-04-07T14:30:02,5Z",
        "2026-04-07T14:30:02+0000",
        "2026-04-07T14:30:02+01:00",
        "2026-04-07T14:30:02.+00:00",
        "2026-04-07T14:30:02Z+00:00",
        "+00:00",
        "2026-04-07 14:30:02Z",
        "2026-4-7T14:30:02.000Z",
        "2026-04-31T14:30:02Z",
        "2016-12-31T23:59:60Z",
        "1969-12-31T23:59:59Z",
        "0001-01-01T00:00:00Z",
    ],
)
def test_microseconds_refuses_what_no_venue_documents(text: str) -> None:
    assert microseconds(text) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-04-07T14:30:03.120000Z", "2026-04-07T14:30:03.12Z"),
        ("2026-04-07T14:30:03.000000000Z", "2026-04-07T14:30:03Z"),
        ("2026-04-07T14:30:00Z", "2026-04-07T14:30:00Z"),
        ("2026-04-07T14:30:00.0Z", "2026-04-07T14:30:00Z"),
        ("2026-04-07T14:30:03.123456789Z", "2026-04-07T14:30:03.123456789Z"),
    ],
)
def test_canonical_time_keeps_every_digit_that_means_something(text: str, expected: str) -> None:
    assert canonical_time(text) == expected
