"""What a venue answers a subscription, as every venue module reports it. Knows no venue."""

from typing import Final, NamedTuple

import msgspec

from k2_core.venues.json_text import decode_as
from k2_core.venues.routing import Data

Subscription = tuple[Data, str]
"""What one symbol is subscribed to: the data, and the venue's own symbol."""


class Reply(NamedTuple):
    """A venue's answer to a subscription.

    ``subscriptions`` are those that the answer is about; without any it is about all requests of the connection that
    have no answer yet. ``text`` is the venue's reason for a refusal. ``fields`` are the texts of a refusal if it has
    several: one may name what is refused, another may repeat the whole request.
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
