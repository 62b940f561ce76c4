"""Requests a minute: by key, on every answer, shared by workers, and without a store that fails."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from limits.storage import MemoryStorage
from prometheus_client import REGISTRY
from starlette.testclient import TestClient

from k2_api.access import rate_limits
from k2_api.access.rate_limits import RateLimits
from k2_api.http import middleware
from k2_core.clock import NS_PER_SECOND, now_ns, now_s
from k2_core.errors import SettingsError
from k2_core.settings import Settings
from tests.api.keys import a_caller, a_key
from tests.api.lakes import Lake, a_trade

Serve = Callable[[Lake], TestClient]


def settings(**api: Any) -> Settings:
    return Settings.model_validate({"api": api})


def test_each_key_has_its_own_rate(lake: Lake, client: TestClient) -> None:
    one, other = (a_key(lake.settings, rate=2)[0] for _ in range(2))
    before = REGISTRY.get_sample_value("k2_rate_limited_total") or 0
    answers = [client.get("/v1/trades", headers={"X-API-Key": key}) for key in (one, one, one, other)]
    assert [each.status_code for each in answers] == [200, 200, 429, 200]
    assert [each.headers["X-RateLimit-Remaining"] for each in answers] == ["1", "0", "0", "1"]
    refused = answers[2]
    assert refused.json()["error"]["code"] == "rate_limited"
    assert refused.json()["error"]["message"].startswith("your key allows 2 requests a minute; ask again in ")
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert "Retry-After" not in answers[0].headers
    assert (REGISTRY.get_sample_value("k2_rate_limited_total") or 0) - before == 1


def test_every_answer_says_what_is_left(lake: Lake, client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    lake.add([a_trade()])
    client.headers["X-API-Key"] = a_key(lake.settings, rate=7, exchanges=("binance",))[0]
    monkeypatch.setattr(middleware.log, "exception", lambda *_, **__: None)
    monkeypatch.setattr("k2_api.routes.symbols.list_symbols", lambda *_: 1 / 0)
    queries = ("trades", "trades?limit=0", "trades?limit=1&limit=2", "trades?exchange=kraken", "trades?cursor=x")
    answers = [client.get(f"/v1/{query}") for query in (*queries, "symbols")]
    answers.append(client.get("/v1/trades", headers={"If-None-Match": answers[0].headers["ETag"]}))
    assert [each.status_code for each in answers] == [200, 422, 422, 403, 400, 500, 304]
    assert {each.headers["X-RateLimit-Limit"] for each in answers} == {"7"}
    assert [each.headers["X-RateLimit-Remaining"] for each in answers] == ["6", "5", "4", "3", "2", "1", "0"]
    assert all(0 < int(each.headers["X-RateLimit-Reset"]) - now_s() < 62 for each in answers)


def test_a_key_has_a_hundred_requests_a_minute_unless_it_says_otherwise() -> None:
    spent = RateLimits(settings()).spend(a_caller())
    assert spent is not None
    assert (spent.limit, spent.remaining) == (100, 99)


def test_the_key_of_the_settings_has_no_rate_unless_it_is_set(client: TestClient) -> None:
    assert [client.get("/v1/trades").status_code for _ in range(102)] == [200] * 102
    assert "X-RateLimit-Limit" not in client.get("/v1/trades").headers


def test_routes_of_the_system_have_no_rate(tmp_path: Path, client_of: Serve) -> None:
    limited = Lake(tmp_path / "limited", {"key_rate": 1})
    client = client_of(limited)
    assert [client.get("/v1/trades").status_code for _ in range(2)] == [200, 429]
    answers = [client.get(path) for path in ("/health", "/ready", "/metrics", "/docs", "/openapi.json", "/nowhere") * 2]
    assert {each.status_code for each in answers} == {200, 404}
    assert not any("X-RateLimit-Limit" in each.headers for each in answers)
    limited.catalog.engine.dispose()


@pytest.mark.parametrize(("workers", "share"), [(1, 10), (4, 2), (100, 1)])
def test_each_worker_allows_its_share(workers: int, share: int) -> None:
    rates = RateLimits(settings(workers=workers))
    allowed = [spent.allowed for _ in range(share + 1) if (spent := rates.spend(a_caller(rate=10)))]
    assert allowed == [*[True] * share, False]


def test_a_request_of_a_minute_ago_no_longer_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    rates, caller = RateLimits(settings()), a_caller(rate=2)
    spent = [rates.spend(caller) for _ in range(3)]
    assert [each.allowed for each in spent if each] == [True, True, False]
    assert len({each.reset_s for each in spent if each}) == 1
    monkeypatch.setattr("time.time", lambda: now_ns() / NS_PER_SECOND + 61)
    again = rates.spend(caller)
    assert again is not None
    assert (again.allowed, again.remaining) == (True, 1)


class OneStore(MemoryStorage):
    """A store that all limits with this URL share, as processes share a server; it can be away."""

    STORAGE_SCHEME = ("k2test",)
    _shared = MemoryStorage()
    away = False

    def acquire_entry(self, *args: Any, **more: Any) -> bool:
        if self.away:
            raise ConnectionError("away")
        return self._shared.acquire_entry(*args, **more)

    def get_moving_window(self, *args: Any) -> tuple[float, int]:
        return self._shared.get_moving_window(*args)

    @property
    def base_exceptions(self) -> type[Exception]:
        return ConnectionError


def test_workers_with_a_shared_store_count_together() -> None:
    one, other = (RateLimits(settings(workers=2, rate_limit_store="k2test://")) for _ in range(2))
    caller = a_caller(key_id="together", rate=3)
    spent = [each.spend(caller) for each in (one, other, one, other)]
    assert [(each.allowed, each.limit, each.remaining) for each in spent if each] == [
        *((True, 3, 2), (True, 3, 1), (True, 3, 0)),
        (False, 3, 0),
    ]


def test_while_the_shared_store_is_away_each_worker_allows_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    warned: list[str] = []
    monkeypatch.setattr(OneStore, "away", True)
    monkeypatch.setattr(rate_limits.log, "warning", lambda text, **_: warned.append(text))
    rates = RateLimits(settings(workers=2, rate_limit_store="k2test://"))
    spent = [rates.spend(a_caller(rate=2)) for _ in range(2)]
    assert [(each.allowed, each.limit) for each in spent if each] == [(True, 1), (False, 1)]
    assert len(warned) == 2


@pytest.mark.parametrize("url", ["nothing", "nosuch://user:secret@host", "http://user:secret@host"])
def test_a_store_that_cannot_be_used_is_one_sentence_without_its_password(url: str) -> None:
    with pytest.raises(SettingsError) as raised:
        RateLimits(settings(rate_limit_store=url))
    assert str(raised.value).startswith("K2_API__RATE_LIMIT_STORE cannot be used: ")
    assert "secret" not in str(raised.value)
