"""JSON as venues send it, read strictly and within bounds. Knows no venue, and no frame's meaning."""

import json
import re
from typing import Final, NoReturn, TypeVar

import msgspec
import numpy as np

from k2_core.errors import MalformedFrame

DEEPEST: Final = 200
"""Levels of nesting. A decoder's own bound depends on the depth of its caller's stack; venues use a few levels."""
SHALLOW_BYTES: Final = 2 * DEEPEST
"""A shorter text cannot open more levels than allowed and close them all."""
UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, MalformedFrame)
"""What a fast decoder, or :func:`check_text`, says of a text that is not what was expected."""
_Shape = TypeVar("_Shape")
_LONGEST_INT: Final = 40  # digits; far more than any column holds
# The last quote is optional: a text that does not end is looked at once, not again from each quote within it.
_TEXTS: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_STEPS: Final = np.zeros(256, dtype=np.int64)
_STEPS[list(b"[{")], _STEPS[list(b"]}")] = 1, -1


def check_text(payload: bytes) -> None:
    """Refuse a text that is not UTF-8 or nests too deep: a fast decoder does not check that in fields that it skips.

    Raises:
        MalformedFrame: ``malformed_json``.
    """
    if not payload.isascii():
        try:
            payload.decode()
        except UnicodeDecodeError as error:
            raise MalformedFrame("malformed_json", str(error)) from None
    # Few texts have so many brackets. In those the depth is counted, without brackets inside of strings.
    if len(payload) - len(payload.translate(None, b"[{")) > DEEPEST:
        structure = np.frombuffer(_TEXTS.sub(b"", payload), dtype=np.uint8)
        deepest = int(np.cumsum(_STEPS[structure]).max())
        if deepest > DEEPEST:
            raise MalformedFrame("malformed_json", f"nested {deepest} levels deep")


def decode_as(decoder: msgspec.json.Decoder[_Shape], payload: bytes) -> _Shape | None:
    """Read JSON of one shape; None if it is not JSON or has another shape. :func:`decode_any` then finds out which."""
    try:
        if len(payload) > SHALLOW_BYTES or not payload.isascii():
            check_text(payload)
        return decoder.decode(payload)
    except UNREADABLE:
        return None


def decode_any(payload: bytes) -> object:
    """Read any JSON, whatever the length of its numbers: an int of over 40 digits becomes ±10⁴⁰, which fits nowhere.

    Raises:
        MalformedFrame: ``malformed_json``.
    """
    check_text(payload)
    try:
        value = json.loads(payload.decode(), parse_int=_bounded, parse_constant=_refuse)
        if b"\\u" in payload:
            json.dumps(value, ensure_ascii=False).encode()  # half of a surrogate pair is no text
    except ValueError as error:
        raise MalformedFrame("malformed_json", str(error)) from None
    return value


def decode_object(payload: bytes) -> dict[str, object]:
    """Read a JSON object as :func:`decode_any` does.

    Raises:
        MalformedFrame: ``malformed_json``, or ``wrong_type`` when it is another value.
    """
    value = decode_any(payload)
    if not isinstance(value, dict):
        raise MalformedFrame("wrong_type", f"the frame is {type(value).__name__}, expected an object")
    return value


def _bounded(digits: str) -> int:
    if len(digits) <= _LONGEST_INT:
        return int(digits)
    bound: int = 10**_LONGEST_INT
    return -bound if digits.startswith("-") else bound


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
