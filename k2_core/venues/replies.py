"""What a venue answers a subscription, as every venue module tells it. Knows no venue."""

from typing import NamedTuple

from k2_core.venues.routing import Data

Subscription = tuple[Data, str]
"""What one symbol is subscribed to: the data, and the venue's own symbol."""


class Reply(NamedTuple):
    """A venue's answer to a subscription.

    ``subscriptions`` are those that the answer is about; none: all that the connection has asked for and that was not
    answered yet. ``text`` is what the venue says of a refusal, in its own words.
    """

    accepted: bool
    subscriptions: tuple[Subscription, ...] = ()
    text: str = ""
