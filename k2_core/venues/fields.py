"""What a venue's message carries, field by field, and what is wrong with it in words. Knows no venue."""

from collections.abc import Mapping, Set
from typing import Final, NamedTuple

from k2_core.errors import MalformedFrame
from k2_core.venues.json_text import decode_object

MAX_ID: Final = 1 << 63
"""Ids are 64-bit integers with a sign in the tables."""
NUMBER: Final = (int, float)
"""A JSON number; its value is never used, only its text."""
_JSON_NAMES: Final = {str: "a text", int: "a whole number", bool: "true or false", NUMBER: "a number", list: "a list"}
_DETAIL_CHARACTERS: Final = 200

Kind = type | tuple[type, ...]


class Fault(NamedTuple):
    """Why an item of a frame cannot become a row."""

    reason: str
    detail: str


def fault_in(
    value: Mapping[str, object], fields: Mapping[str, Kind], *, may_be_null: Set[str] = frozenset()
) -> Fault | None:
    """Return what is wrong with the first of ``fields`` that is missing, null or of another type."""
    for name, kind in fields.items():
        found = value.get(name)
        if found is None:
            if name in may_be_null and name in value:
                continue
            return Fault("missing_field", f"field {name} is {'null' if name in value else 'missing'}")
        if type(found) not in (kind if isinstance(kind, tuple) else (kind,)):
            return Fault("wrong_type", f"field {name} is {spelled(found)}, expected {_JSON_NAMES.get(kind, kind)}")
    return None


def message_on(
    channel: str, payload: bytes, items: str, *, control: Set[str], replies: Set[str]
) -> dict[str, object] | None:
    """Read a message of a venue that names a channel in each; None for a control message.

    Args:
        channel: the one that is wanted.
        payload: the frame.
        items: name of the list in which the message carries what it is about.
        control: channels that carry no data.
        replies: fields that a message without a channel has when it answers a request.

    Raises:
        MalformedFrame: ``unknown_event`` for another channel, or why nothing of the frame can be read.
    """
    message = decode_object(payload)
    found = message.get("channel")
    if found is not None and not isinstance(found, str):
        raise MalformedFrame("wrong_type", f"field channel is {spelled(found)}, expected a text")
    if found in control or (found is None and message.keys() & replies):
        return None
    if found != channel:
        raise MalformedFrame("unknown_event", f"channel {spelled(found)}")
    fault = fault_in(message, {items: list})
    if fault is not None:
        raise MalformedFrame(*fault)
    return message


def fault_in_id(name: str, number: int) -> Fault | None:
    """Return what is wrong with an id that is an integer."""
    if number < 0:
        return Fault("wrong_type", f"field {name} is {number}, expected no negative number")
    if number >= MAX_ID:
        return Fault("number_out_of_range", f"field {name} is {number}, which has more than 63 bits")
    return None


def spelled(value: object) -> str:
    """Return a value for a person to read, cut off when it is long."""
    text = repr(value)
    return text if len(text) <= _DETAIL_CHARACTERS else f"{text[:_DETAIL_CHARACTERS]}… ({len(text)} characters)"
