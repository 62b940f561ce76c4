"""A venue of a test's own, which it passes to whatever needs one."""

from types import SimpleNamespace
from typing import Any, cast

from k2_core.venues import binance
from k2_core.venues.venue_protocol import Venue


def a_venue(**replaced: Any) -> Venue:
    """Binance with other members: ``VENUE`` for topics and tables of one's own, ``parse`` for another parser."""
    return cast(Venue, SimpleNamespace(**vars(binance) | replaced))
