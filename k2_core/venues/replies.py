"""What a venue answers a subscription, as every venue module tells it. Knows no venue."""

from typing import Final, NamedTuple

import msgspec

from k2_core.venues.json_text import decode_as
from k2_core.venues.routing import Data

Subscription = tuple[Data, str]
"""What one symbol is subscribed to: the data, and the venue's own symbol."""


class Reply(NamedTuple):
    """A venue's answer to a subscription.

    ``subscriptions`` are those that the answer is about; none: all that the connection has asked for and that was not
    answered yet. ``text`` is what the venue says of a refusal, in its own words. ``fields`` are the texts of a refusal
    field by field, where it has several: any may name what is refused, another repeat all that was asked for.
    """

    accepted: bool
    subscriptions: tuple[Subscription, ...] = ()
    text: str = ""
    fields: tuple[str, ...] = ()


_object: Final = msgspec.json.Decoder(dict[str, object])


def texts_of(payload: bytes, *, leave_out: frozenset[str]) -> tuple[str, ...]:
    """Return the texts of an object, one for each field that has any; those of a list or an object within are one."""
    found = (decode_as(_object, payload) or {}).items()
    texts = [" ".join(_texts_in(value)) for name, value in found if name not in leave_out]
    return tuple(text for text in texts if text)


def _texts_in(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for each in inner for text in _texts_in(each)]
