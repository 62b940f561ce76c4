"""Counts of what a feed dropped while Kafka was away, for the event that reports it afterwards."""

from k2_core import clock
from k2_core.clock import NS_PER_US


class Drops:
    """Count dropped frames; ``total`` over the feed's life."""

    def __init__(self) -> None:
        self.total = 0
        self._frames = self._bytes = self._since_ns = self._until_ns = 0

    def __bool__(self) -> bool:
        return self._frames > 0

    def add(self, received_ns: int, size: int) -> None:
        self.total += 1
        self._frames += 1
        self._bytes += size
        self._since_ns = self._since_ns or received_ns
        self._until_ns = received_ns

    def take_details(self) -> dict[str, str]:
        """Return what was dropped since this was called last, as details of an event."""
        details = {
            "frames": str(self._frames),
            "bytes": str(self._bytes),
            "since": _iso(self._since_ns),
            "until": _iso(self._until_ns),
        }
        self._frames = self._bytes = self._since_ns = self._until_ns = 0
        return details


def _iso(moment_ns: int) -> str:
    return clock.iso(clock.from_us(moment_ns // NS_PER_US))
