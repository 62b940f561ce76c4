"""Where a connection puts a venue's frames: the interface of a feed into Kafka and of a recorder."""

from typing import Protocol

from k2_feeds.kafka.feed_events import Kind


class Stream(Protocol):
    """The frames and events of one connection, in their order. Several connections of a venue may be open at once."""

    @property
    def heard(self) -> dict[tuple[str, str], int]:
        """When the newest frame with data, but no snapshot, came: {(channel of the route, venue's symbol): ns}."""

    def take(self, received_ns: int, payload: bytes) -> None:
        """Take one frame, verbatim."""

    def note(self, kind: Kind, symbol: str = "", **details: str) -> None:
        """Take an event of the connection."""

    def close(self) -> None:
        """End the stream."""


class Sink(Protocol):
    """Where all connections of one venue put what they receive."""

    @property
    def full(self) -> bool:
        """Whether :meth:`wait_until_accepted` must be awaited before the next frame of any stream."""

    async def wait_until_accepted(self) -> None:
        """Wait until frames are taken again."""

    def open(self, connection_id: str) -> Stream:
        """Begin a connection; its frames are numbered from 0."""
