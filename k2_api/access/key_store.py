"""The API's keys, in the catalog's database: only the SHA-256 of each, so that nobody can read a key there."""

import hashlib
import re
import secrets
from base64 import urlsafe_b64encode
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from sqlalchemy import JSON, BigInteger, Column, Engine, Integer, MetaData, Row, String, Table, insert, inspect, select
from sqlalchemy import update as updating
from sqlalchemy.exc import OperationalError, ProgrammingError

from k2_api.access.caller import Caller
from k2_api.api_errors import ExpiredKey, RevokedKey
from k2_core.clock import now_us
from k2_core.errors import NoSuchKey
from k2_core.made_once import ensure_table

_PREFIX: Final = "k2_"
_SECRET_BYTES: Final = 32
FORM: Final = re.compile(rf"{_PREFIX}[A-Za-z0-9_-]{{43}}")
"""How a key looks: a prefix, by which people and scanners know it, and 32 random bytes as URL-safe text."""

_KEYS: Final = Table(
    "k2_api_keys",
    MetaData(),
    Column("key_id", String(32), primary_key=True),
    Column("sha256", String(64), nullable=False, unique=True),
    Column("name", String(64), nullable=False),
    Column("role", String(16), nullable=False),
    Column("exchanges", JSON, nullable=False),
    Column("asset_classes", JSON, nullable=False),
    Column("row_limit", Integer),
    Column("rate", Integer, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("expires_us", BigInteger),
    Column("revoked_us", BigInteger),
)


@dataclass(frozen=True)
class StoredKey:
    """What is kept of a key; times are µs since 1970."""

    caller: Caller
    sha256: str
    created_us: int = 0
    expires_us: int | None = None
    revoked_us: int | None = None

    @property
    def state(self) -> Literal["valid", "expired", "revoked"]:
        """Whether it may be used now."""
        if self.revoked_us is not None:
            return "revoked"
        return "expired" if self.expires_us is not None and self.expires_us <= now_us() else "valid"

    def require_valid(self) -> None:
        """Refuse a key that is no longer valid.

        Raises:
            RevokedKey: an operator revoked it.
            ExpiredKey: its time is over.
        """
        if self.state == "revoked":
            raise RevokedKey("your key was revoked; ask its operator for a new one")
        if self.state == "expired":
            raise ExpiredKey("your key has expired; ask its operator for a new one")


class KeyStore:
    """The keys of a database; each method raises SQLAlchemyError when the database cannot be read or written."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def create(self, caller: Caller, expires_us: int | None) -> tuple[str, StoredKey]:
        """Make a key that allows what ``caller`` does, under a new id; return its text, which is kept nowhere, too."""
        key = _PREFIX + urlsafe_b64encode(secrets.token_bytes(_SECRET_BYTES)).rstrip(b"=").decode()
        stored = StoredKey(replace(caller, key_id=secrets.token_hex(6)), digest(key), now_us(), expires_us)
        ensure_table(self.engine, _KEYS)
        with self.engine.begin() as connection:
            connection.execute(
                insert(_KEYS).values(
                    key_id=stored.caller.key_id,
                    sha256=stored.sha256,
                    name=caller.name,
                    role=caller.role,
                    exchanges=list(caller.exchanges),
                    asset_classes=list(caller.asset_classes),
                    row_limit=caller.row_limit,
                    rate=caller.rate,
                    created_us=stored.created_us,
                    expires_us=expires_us,
                )
            )
        return key, stored

    def all(self) -> list[StoredKey]:
        """Return every key ever made, in the order in which they were made."""
        if not inspect(self.engine).has_table(_KEYS.name):
            return []
        with self.engine.connect() as connection:
            rows = connection.execute(select(_KEYS).order_by(_KEYS.c.created_us, _KEYS.c.key_id)).all()
        return [_stored(row) for row in rows]

    def revoke(self, key_id: str) -> StoredKey:
        """Revoke a key for good; return it.

        Raises:
            NoSuchKey: no key has this id, or it was revoked before.
        """
        found = next((each for each in self.all() if each.caller.key_id == key_id), None)
        if found is None:
            raise NoSuchKey(f"no key has the id {key_id}: k2 keys list shows them.")
        revoked_us = now_us()
        same = (_KEYS.c.key_id == key_id, _KEYS.c.revoked_us.is_(None))
        with self.engine.begin() as connection:
            if not connection.execute(updating(_KEYS).where(*same).values(revoked_us=revoked_us)).rowcount:
                raise NoSuchKey(f"the key {key_id} ({found.caller.name}) was revoked before: there is nothing to do.")
        return replace(found, revoked_us=revoked_us)

    def find(self, sha256: str) -> StoredKey | None:
        """Return the key that has this hash, also one that is no longer valid; None when there is none."""
        try:
            with self.engine.connect() as connection:
                row = connection.execute(select(_KEYS).where(_KEYS.c.sha256 == sha256)).first()
        except (OperationalError, ProgrammingError):
            if inspect(self.engine).has_table(_KEYS.name):
                raise
            return None  # nobody has made a key yet
        return None if row is None else _stored(row)


def digest(key: str) -> str:
    """Return the SHA-256 of a key; the key has 256 random bits, so that a slow hash would protect nothing more."""
    return hashlib.sha256(key.encode()).hexdigest()


def _stored(row: Row[Any]) -> StoredKey:
    caller = Caller(
        row.key_id, row.name, row.role, tuple(row.exchanges), tuple(row.asset_classes), row.row_limit, row.rate
    )
    return StoredKey(caller, row.sha256, row.created_us, row.expires_us, row.revoked_us)
