from datetime import timedelta
from email.utils import format_datetime

import pytest

from k2_core import clock
from k2_core.retry_after import seconds_of

FAR = "Wed, 21 Oct 99999999999999999999 07:28:00 GMT"
FAR_ZONE = "Wed, 21 Oct 2015 07:28:00 +99999999999999999999"


@pytest.mark.parametrize(("text", "seconds"), [("17", 17), (" 0 ", 0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0)])
def test_seconds_are_those_that_the_header_says(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", [None, "", "soon", "-3", "1e9", "١٢", "9" * 400, FAR, FAR_ZONE])
def test_nothing_is_known_when_the_header_says_neither_seconds_nor_a_date(text: str | None) -> None:
    assert seconds_of(text) is None


@pytest.mark.parametrize("zone", ["GMT", "-0000"])
def test_a_date_is_counted_from_now(zone: str) -> None:
    later = format_datetime(clock.now() + timedelta(days=1)).replace("+0000", zone)

    found = seconds_of(later)

    assert found is not None
    assert 0 < found <= timedelta(days=1).total_seconds()
