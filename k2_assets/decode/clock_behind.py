"""Spans in which the feed's clock was behind, so that trades seemed to come from the future. Kept on silver's table.

A person records them. Drain and rebuilds both read them, so that a rebuild gives the same rows.
"""

import json
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from pyiceberg.table import Table

from k2_core import clock

PROPERTY: Final = "k2.clock_behind"
_Ints = npt.NDArray[np.int64]


class Span(NamedTuple):
    """Frames received in [first_us, end_us): their times may be up to ``until_us``, the time by the right clock.

    ``ahead_us`` is how far at most they may be after their receipt.
    """

    first_us: int
    end_us: int
    until_us: int
    ahead_us: int


def spans_of(silver: Table) -> tuple[Span, ...]:
    """Return the spans that were recorded."""
    return tuple(Span(*each) for each in json.loads(silver.properties.get(PROPERTY, "[]")))


def with_span(spans: Sequence[Span], span: Span) -> dict[str, str]:
    """Return the property that holds ``span`` too, in the place of one of the same frames."""
    others = [each for each in spans if each[:2] != span[:2]]
    return {PROPERTY: json.dumps([*others, span], separators=(",", ":"))}


def excused(spans: Sequence[Span], received_ns: _Ints, events_us: _Ints) -> npt.NDArray[np.bool_]:
    """Return which times are after their receipt only because the feed's clock was behind."""
    found = np.zeros(len(events_us), dtype=bool)
    received_us = received_ns // clock.NS_PER_US
    for span in spans:
        latest = np.minimum(received_us + span.ahead_us, span.until_us)
        found |= (received_us >= span.first_us) & (received_us < span.end_us) & (events_us <= latest)
    return found
