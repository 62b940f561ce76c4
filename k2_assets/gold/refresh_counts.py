"""What a refresh of a day of gold did, in numbers."""

from dataclasses import dataclass, fields
from typing import Self


@dataclass(frozen=True)
class RefreshCounts:
    """The base of the two kinds; counts of one kind can be added."""

    def __add__(self, other: Self) -> Self:
        return type(self)(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))


@dataclass(frozen=True)
class RowCounts(RefreshCounts):
    """Of trades or quotes: rows appended, rows of silver read, copies dropped, and copies with other content."""

    rows_added: int = 0
    rows_read: int = 0
    repeated: int = 0
    conflicting: int = 0


@dataclass(frozen=True)
class WindowCounts(RefreshCounts):
    """Of candles: windows computed, and those that were written or deleted."""

    windows_computed: int = 0
    windows_changed: int = 0
