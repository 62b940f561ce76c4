"""Which days of a table retention has removed: a property of the table, set in the commit that removes their files.

A day in it may have rows again, such as late ones; it never says that a day has all of its rows.
"""

import json
from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from typing import Final

from k2_core.errors import RemovedByRetention

PROPERTY: Final = "k2.removed_days"
_DAY: Final = timedelta(days=1)
Range = tuple[date, date]
"""The first and the last of days that follow each other."""


class RemovedDays:
    """An immutable set of days, kept as ranges.

    Args:
        days: of which rows were removed.
        sequence: Iceberg's sequence number of the newest state from before the last removal; only it and older states
            can name files of ``days`` that are gone.
    """

    __slots__ = ("ranges", "sequence")

    def __init__(self, days: Iterable[date] = (), sequence: int = 0) -> None:
        self.ranges: tuple[Range, ...] = _merged((day, day) for day in days)
        self.sequence = sequence

    @classmethod
    def of(cls, properties: Mapping[str, str]) -> "RemovedDays":
        """Read the days from a table's properties; empty when nothing was ever removed."""
        stored = json.loads(properties.get(PROPERTY, "{}"))
        found = cls(sequence=stored.get("sequence", 0))
        found.ranges = _merged((date.fromisoformat(a), date.fromisoformat(b)) for a, b in stored.get("days", ()))
        return found

    def with_days(self, days: Iterable[date], sequence: int) -> "RemovedDays":
        """Return these days and others, which are removed from the state with that sequence number."""
        more = RemovedDays(days, sequence)
        more.ranges = _merged((*self.ranges, *more.ranges))
        return more

    def without(self, day: date) -> "RemovedDays":
        """Return these days but one that was built again from all of its source."""
        left = RemovedDays(sequence=self.sequence)
        left.ranges = tuple(
            part
            for first, last in self.ranges
            for part in ([(first, min(last, day - _DAY)), (max(first, day + _DAY), last)])
            if part[0] <= part[1]
        )
        left.ranges = _merged(left.ranges)
        return left

    def between(self, first: date, last: date) -> tuple[Range, ...]:
        """Return the removed days of a range, both of its ends included."""
        return tuple((max(a, first), min(b, last)) for a, b in self.ranges if a <= last and b >= first)

    def to_properties(self) -> dict[str, str]:
        """Return the property that carries the days."""
        days = [[first.isoformat(), last.isoformat()] for first, last in self.ranges]
        return {PROPERTY: json.dumps({"days": days, "sequence": self.sequence}, separators=(",", ":"))}

    def __contains__(self, day: date) -> bool:
        return any(first <= day <= last for first, last in self.ranges)

    def __bool__(self) -> bool:
        return bool(self.ranges)

    def __str__(self) -> str:
        return in_words(self.ranges)


def in_words(ranges: Iterable[Range]) -> str:
    """Return ranges as they are written in a sentence: ``2026-11-01 to 2026-11-05, 2026-11-09``."""
    return ", ".join(f"{first}" if first == last else f"{first} to {last}" for first, last in ranges)


def require_kept(source: str, properties: Mapping[str, str], what: str, first: date, last: date) -> None:
    """Make sure that retention has removed nothing of a source that a rebuild may need.

    Args:
        source: the table that is read.
        properties: its own.
        what: is to be rebuilt, such as ``gold_crypto_trades of 2026-08-01``.
        first: the first day of the source that may hold rows of it.
        last: the last one.

    Raises:
        RemovedByRetention: rows are gone; the sentence names the table and the days.
    """
    if gone := RemovedDays.of(properties).between(first, last):
        msg = (
            f"{what} stays as it is: it would be rebuilt from {source}, of which retention has removed "
            f"{in_words(gone)}; only a copy of the home from before that can rebuild it (docs/operations.md#retention)"
        )
        raise RemovedByRetention(msg)


def _merged(ranges: Iterable[Range]) -> tuple[Range, ...]:
    found: list[Range] = []
    for first, last in sorted(ranges):
        if found and first <= found[-1][1] + _DAY:
            found[-1] = found[-1][0], max(found[-1][1], last)
        else:
            found.append((first, last))
    return tuple(found)
