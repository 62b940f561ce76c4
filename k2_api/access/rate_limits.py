"""How many requests of a key are served in a minute: a window that moves, in this process or in a shared store."""

from dataclasses import dataclass
from math import ceil
from typing import Final

from limits import RateLimitItemPerMinute
from limits.errors import ConfigurationError, StorageError
from limits.storage import MemoryStorage, storage_from_string
from limits.strategies import MovingWindowRateLimiter

from k2_api.access.caller import Caller
from k2_core.clock import now_s
from k2_core.errors import SettingsError
from k2_core.logs import logger
from k2_core.settings import Settings

log = logger(__name__)


@dataclass(frozen=True)
class Spent:
    """What one request left of its key's rate."""

    allowed: bool
    limit: int
    remaining: int
    reset_s: float
    """When the oldest request of the minute no longer counts, in s since 1970."""

    @property
    def retry_after_s(self) -> int:
        """How long to wait until one more request is allowed."""
        return max(1, ceil(self.reset_s - now_s()))


class RateLimits:
    """Count the requests of each key.

    Without a shared store each process counts its own, and allows its share of a rate. It also does so while the
    shared store does not answer.
    """

    def __init__(self, settings: Settings) -> None:
        self._workers = settings.api.workers
        self._own = MovingWindowRateLimiter(MemoryStorage())
        self._shared = _shared(settings)

    def spend(self, caller: Caller) -> Spent | None:
        """Count one request; None for a caller without a limit."""
        if caller.rate is None:
            return None
        if self._shared is not None:
            try:
                return _spend(self._shared, caller.key_id, caller.rate)
            except StorageError as error:
                log.warning(
                    "rates are counted by each process: the shared store failed", cause=repr(error.storage_error)
                )
        return _spend(self._own, caller.key_id, max(1, caller.rate // self._workers))


def _spend(limiter: MovingWindowRateLimiter, key_id: str, rate: int) -> Spent:
    item = RateLimitItemPerMinute(rate, namespace=_NAMESPACE)
    allowed = limiter.hit(item, key_id)
    window = limiter.get_window_stats(item, key_id)
    return Spent(allowed, rate, max(0, window.remaining), window.reset_time)


def _shared(settings: Settings) -> MovingWindowRateLimiter | None:
    url = settings.api.rate_limit_store
    if url is None:
        return None
    try:
        return MovingWindowRateLimiter(storage_from_string(url.get_secret_value(), wrap_exceptions=True))
    # A URL that names no store, a library that is not installed, a store that cannot do this: all before the first use.
    except (ConfigurationError, NotImplementedError, AssertionError, ValueError) as error:
        # The text of the error may repeat the URL, which may hold a password.
        msg = (
            "K2_API__RATE_LIMIT_STORE cannot be used: it must be the URL of a store of the library limits, such as "
            f"redis://host:6379, whose client is installed ({type(error).__name__})."
        )
        raise SettingsError(msg) from None


_NAMESPACE: Final = "k2-api"
