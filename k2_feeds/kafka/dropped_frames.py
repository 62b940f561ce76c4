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
        since, until = (clock.iso(clock.from_us(at_ns // NS_PER_US)) for at_ns in (self._since_ns, self._until_ns))
        details = {"frames": str(self._frames), "bytes": str(self._bytes), "since": since, "until": until}
        self._frames = self._bytes = self._since_ns = self._until_ns = 0
        return details
