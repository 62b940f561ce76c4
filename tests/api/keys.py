"""Keys in the catalog of a small lake, and a clock that can be ahead."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import create_engine

from k2_api.access import key_store, known_keys
from k2_api.access.caller import Caller
from k2_api.access.key_store import KeyStore
from k2_core import clock
from k2_core.settings import Settings

Ahead = Callable[[float], None]


def store_of(settings: Settings) -> KeyStore:
    return KeyStore(create_engine(settings.catalog_uri))


def a_caller(**allowed: Any) -> Caller:
    return Caller(**{"key_id": "", "name": "desk", "role": "reader", **allowed})


def a_key(settings: Settings, *, expires_us: int | None = None, **allowed: Any) -> tuple[str, str]:
    """Create a key; return its text and its id."""
    store = store_of(settings)
    key, stored = store.create(a_caller(**allowed), expires_us)
    store.engine.dispose()
    return key, stored.caller.key_id


def revoke(settings: Settings, key_id: str) -> None:
    store = store_of(settings)
    store.revoke(key_id)
    store.engine.dispose()


def clocks_ahead(monkeypatch: pytest.MonkeyPatch) -> Ahead:
    """Return a function that sets the clocks which keys go by ahead by some seconds."""

    def ahead(seconds: float) -> None:
        monkeypatch.setattr(known_keys, "monotonic", lambda: clock.monotonic() + seconds)
        monkeypatch.setattr(key_store, "now_us", lambda: clock.now_us() + int(seconds * clock.US_PER_SECOND))

    return ahead
