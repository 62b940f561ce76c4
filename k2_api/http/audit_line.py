"""The question of a request as logs show it: without what gives access, such as a key that somebody put into a URL."""

import re
from typing import Final
from urllib.parse import parse_qsl, urlencode

from k2_api.access.key_store import FORM

_HIDDEN: Final = "hidden"
_NAMES_OF_SECRETS: Final = re.compile("cursor|key|token|secret|password", re.IGNORECASE)
_LONGEST: Final = 2000  # characters


def question_of(path: str, query: bytes, own_key: str) -> str:
    """Return path and query, in which cursors and keys are hidden; ``own_key`` is the one of the settings."""
    pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    shown = [
        (FORM.sub(_HIDDEN, name), _HIDDEN if _NAMES_OF_SECRETS.search(name) or value == own_key else value)
        for name, value in pairs
    ]
    asked = urlencode([(name, FORM.sub(_HIDDEN, value)) for name, value in shown])
    return path_of(path) + (f"?{asked}" if asked else "")[:_LONGEST]


def body_of(body: str, own_key: str) -> str:
    """Return the text of a body, without its cursor, in which keys are hidden, whatever has become of their case."""
    for secret in (FORM.pattern, re.escape(own_key)):
        body = re.sub(secret, _HIDDEN, body, flags=re.IGNORECASE)
    return body[:_LONGEST]


def path_of(path: str) -> str:
    """Return a path in which keys are hidden."""
    return FORM.sub(_HIDDEN, path)[:_LONGEST]
