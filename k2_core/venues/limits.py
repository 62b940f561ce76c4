"""What a venue allows its clients, as data. Venue modules name their own as ``LIMITS``."""

from typing import Final, NamedTuple


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


BINANCE: Final = Limits(
    streams_per_connection=1024,
    connection_attempts=300,
    connection_attempts_period_s=300,
    messages_per_s=5,
    subscribe_within_s=None,
    lifetime_s=24 * 3600,
    ping_every_s=20,
    pong_within_s=60,
    heartbeat_s=20,  # the ping; streams themselves may be silent
    idle_s=None,
)
"""Source: Binance's "WebSocket Streams", general information and limits."""

KRAKEN: Final = Limits(
    streams_per_connection=None,
    connection_attempts=150,  # "approximately"; beyond it the address is banned for 10 minutes
    connection_attempts_period_s=600,
    messages_per_s=None,  # there is one, "Exceeded msg rate", that depends on the venue's load and is not published
    subscribe_within_s=None,
    lifetime_s=None,
    ping_every_s=None,  # the client pings, in WebSocket's way or with {"method":"ping"}
    pong_within_s=None,
    heartbeat_s=1,  # on any subscription, while no channel has anything else
    idle_s=60,  # "approximately one minute of inactivity"
)
"""Source: Kraken's "Spot WebSocket Introduction", general considerations; "Heartbeat"."""

COINBASE: Final = Limits(
    streams_per_connection=None,
    connection_attempts=8,  # some pages of the documentation say 750
    connection_attempts_period_s=1,
    messages_per_s=8,  # per IP address, unauthenticated
    subscribe_within_s=5,
    lifetime_s=None,
    ping_every_s=None,
    pong_within_s=None,
    heartbeat_s=1,  # on the channel heartbeats
    idle_s=60,  # a channel closes after 60 to 90 s without updates unless heartbeats are subscribed to
)
"""Source: Coinbase's "Advanced Trade WebSocket Rate Limits", "WebSocket Overview" and "WebSocket Channels"."""
