"""Find out whose a key is. What the database says of a key counts for two seconds; the settings' own needs none."""

import hmac
from typing import Final

from sqlalchemy import create_engine
from sqlalchemy.exc import SQLAlchemyError

from k2_api.access.caller import Caller
from k2_api.access.key_store import FORM, KeyStore, StoredKey, digest
from k2_api.api_errors import KeysUnavailable, WrongKey
from k2_core.clock import monotonic
from k2_core.settings import Settings

KEPT_S: Final = 2.0
"""A key that is revoked is refused after this time at the latest."""

SETTINGS_KEY_ID: Final = "settings"


class KnownKeys:
    """The keys of callers: those of the catalog's database, and the one of the settings."""

    def __init__(self, settings: Settings) -> None:
        own = Caller(SETTINGS_KEY_ID, "the key of the settings", "admin", rate=settings.api.key_rate)
        self._own = StoredKey(own, digest(settings.api.key.get_secret_value()))
        # A connection that the database closed meanwhile, as at its restart, is replaced before it is used.
        self._store = KeyStore(create_engine(settings.catalog_uri, pool_pre_ping=True))
        self._kept: dict[str, tuple[float, StoredKey]] = {}

    def find(self, key: str) -> StoredKey:
        """Return what is kept of a key, which may have expired or have been revoked.

        Raises:
            WrongKey: nobody has made it.
            KeysUnavailable: the database does not answer, and what it said last is too old.
        """
        sha256 = digest(key)
        # Digests have one length: the time to compare them depends neither on the key's length nor on its first bytes.
        if hmac.compare_digest(sha256, self._own.sha256):
            return self._own
        if FORM.fullmatch(key):
            stored = self._stored(sha256)
            if stored is not None and hmac.compare_digest(sha256, stored.sha256):
                return stored
        raise WrongKey("the key in X-API-Key is not known here")

    def close(self) -> None:
        """Give the database's connections back."""
        self._store.engine.dispose()

    def _stored(self, sha256: str) -> StoredKey | None:
        # Only keys that exist are kept: any other text would fill the memory, and a new key works at once.
        asked = monotonic()
        kept = self._kept.get(sha256)
        if kept is not None and asked - kept[0] < KEPT_S:
            return kept[1]
        try:
            stored = self._store.find(sha256)
        except SQLAlchemyError as error:
            raise KeysUnavailable("your key cannot be looked up at the moment; try again shortly") from error
        if stored is not None:
            self._kept[sha256] = asked, stored
        return stored
