"""What a venue allows its clients. Each venue module has its own as ``LIMITS``."""

from typing import NamedTuple


class Limits(NamedTuple):
    """A venue's rules for one WebSocket connection, or for one IP address; None where the venue documents none."""

    streams_per_connection: int | None
    connection_attempts: int
    """Within :attr:`connection_attempts_period_s`, per IP address."""
    connection_attempts_period_s: float
    messages_per_s: float | None
    """From the client to the venue."""
    subscribe_within_s: float | None
    """A connection that has not subscribed by then is closed."""
    lifetime_s: float | None
    """A connection is closed at this age."""
    ping_every_s: float | None
    """The venue sends a WebSocket ping this often."""
    pong_within_s: float | None
    """A connection whose pong does not come within this time is closed."""
    heartbeat_s: float | None
    """Something is heard at least this often on a connection that has subscribed as the venue module does."""
    idle_s: float | None
    """A connection, or a channel, on which nothing happens for so long is closed."""
