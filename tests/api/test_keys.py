"""Keys of the catalog's database: who is let in, until when, and what happens while the database is away."""

import hashlib
import re
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from k2_api.access import known_keys
from k2_api.access.known_keys import KEPT_S, KnownKeys
from k2_api.api_errors import KeysUnavailable, WrongKey
from k2_core.clock import US_PER_SECOND, now_us
from tests.api.keys import Ahead, a_key, clocks_ahead, revoke
from tests.api.lakes import KEY, Lake, a_trade

Serve = Callable[[Lake], TestClient]
HOUR_US = 3600 * US_PER_SECOND


@pytest.fixture
def ahead(monkeypatch: pytest.MonkeyPatch) -> Ahead:
    return clocks_ahead(monkeypatch)


@pytest.fixture
def known(lake: Lake) -> Iterator[KnownKeys]:
    found = KnownKeys(lake.settings)
    yield found
    found.close()


def ask(client: TestClient, key: str) -> tuple[int, str | None]:
    answer = client.get("/v1/trades", headers={"X-API-Key": key})
    return answer.status_code, answer.json()["error"]["code"] if answer.status_code != 200 else None


def damage(catalog: Path) -> None:
    """Make a database that no connection can read."""
    for file in catalog.parent.glob(f"{catalog.name}-*"):
        file.unlink()
    catalog.unlink()
    catalog.write_bytes(b"not a database" * 100)


def test_a_key_made_while_the_api_runs_works_at_once(lake: Lake, client: TestClient) -> None:
    lake.add([a_trade()])
    key, _ = a_key(lake.settings)
    assert re.fullmatch(r"k2_[A-Za-z0-9_-]{43}", key)
    assert ask(client, key) == (200, None)


def test_only_the_hash_of_a_key_is_stored(lake: Lake) -> None:
    key, key_id = a_key(lake.settings)
    with sqlite3.connect(lake.home / "catalog.db") as connection:
        dumped = "\n".join(connection.iterdump())
    connection.close()
    assert key.removeprefix("k2_") not in dumped
    assert hashlib.sha256(key.encode()).hexdigest() in dumped
    assert key_id in dumped


def test_a_key_that_is_not_exactly_the_one_is_not_known(lake: Lake, client: TestClient) -> None:
    key, key_id = a_key(lake.settings)
    last = "B" if key.endswith("A") else "A"
    for wrong in (key.lower(), key[:-1], key + "A", key[:-1] + last, f"{key},{key}", key_id, "'" + key[1:]):
        assert ask(client, wrong) == (403, "wrong_key")


def test_no_key_is_known_before_the_first_was_made(lake: Lake, client: TestClient) -> None:
    assert ask(client, "k2_" + "A" * 43) == (403, "wrong_key")


def test_a_revoked_key_is_refused_without_a_restart(lake: Lake, client: TestClient, ahead: Ahead) -> None:
    key, key_id = a_key(lake.settings)
    assert ask(client, key) == (200, None)
    revoke(lake.settings, key_id)
    ahead(KEPT_S)
    assert ask(client, key) == (403, "key_revoked")
    assert ask(client, KEY) == (200, None)


def test_revocation_is_seen_within_five_seconds() -> None:
    assert KEPT_S < 5


def test_a_key_is_refused_from_the_moment_at_which_it_expires(lake: Lake, client: TestClient, ahead: Ahead) -> None:
    key, _ = a_key(lake.settings, expires_us=now_us() + HOUR_US)
    assert ask(client, key) == (200, None)
    ahead(3600)
    assert ask(client, key) == (403, "key_expired")


def test_a_kept_key_expires_without_a_look_at_the_database(
    lake: Lake, known: KnownKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, _ = a_key(lake.settings, expires_us=now_us() + HOUR_US)
    known.find(key)
    damage(lake.home / "catalog.db")
    monkeypatch.setattr("k2_api.access.key_store.now_us", lambda: now_us() + HOUR_US)
    assert known.find(key).state == "expired"


def test_a_key_is_looked_up_once_in_two_seconds(lake: Lake, known: KnownKeys, ahead: Ahead) -> None:
    key, key_id = a_key(lake.settings)
    assert known.find(key).state == "valid"
    revoke(lake.settings, key_id)
    assert known.find(key).state == "valid"
    ahead(KEPT_S)
    assert known.find(key).state == "revoked"


def test_keys_are_compared_in_constant_time(lake: Lake, known: KnownKeys, monkeypatch: pytest.MonkeyPatch) -> None:
    key, _ = a_key(lake.settings)
    compared: list[tuple[str, str]] = []
    compare = known_keys.hmac.compare_digest
    monkeypatch.setattr(
        known_keys.hmac, "compare_digest", lambda one, other: compared.append((one, other)) or compare(one, other)
    )
    known.find(key)
    own, sha256 = (hashlib.sha256(text.encode()).hexdigest() for text in (KEY, key))
    assert compared == [(sha256, own), (sha256, sha256)]


def test_while_the_database_is_away_a_key_works_until_it_is_too_old(lake: Lake, known: KnownKeys, ahead: Ahead) -> None:
    key, _ = a_key(lake.settings)
    assert known.find(key).caller.name == "desk"
    known._store.engine.dispose()
    damage(lake.home / "catalog.db")
    assert known.find(key).caller.name == "desk"
    ahead(KEPT_S)
    with pytest.raises(KeysUnavailable, match="cannot be looked up at the moment"):
        known.find(key)
    assert known.find(KEY).caller.role == "admin"
    with pytest.raises(WrongKey):  # it needs no database to know that this is no key
        known.find("anything")


def test_a_database_that_is_away_is_503(lake: Lake, client_of: Serve) -> None:
    key, _ = a_key(lake.settings)
    lake.catalog.engine.dispose()
    damage(lake.home / "catalog.db")
    client = client_of(lake)
    assert ask(client, key) == (503, "keys_unavailable")
