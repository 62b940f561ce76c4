"""What every answer keeps to, whatever it is about."""

import re
import sqlite3
import traceback
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from starlette.testclient import TestClient

from k2_api.app import create_app
from k2_api.http import middleware
from k2_api.http.response_models import Candle, Envelope, ErrorEnvelope, Symbol, Trade
from k2_core.settings import Settings
from tests.api.lakes import KEY, Lake, a_candle, a_trade, trades_from

ROUTES = {"/v1/trades": Trade, "/v1/ohlcv/1m?symbol=BTCUSDT": Candle, "/v1/symbols": Symbol}
Serve = Callable[[Lake], TestClient]


@pytest.fixture
def full(lake: Lake) -> Lake:
    lake.add(trades_from(1, 5))
    lake.add_candles([a_candle()])
    return lake


@pytest.mark.parametrize(("path", "model"), list(ROUTES.items()))
def test_answer_is_what_openapi_says(full: Lake, client: TestClient, path: str, model: Any) -> None:
    body = client.get(path).json()
    described = Envelope[model].model_validate(body, strict=True, extra="forbid")
    assert len(described.data) > 0
    assert described.model_dump() == body


def test_description_is_strict_enough_to_notice_a_new_field(full: Lake, client: TestClient) -> None:
    body = client.get("/v1/trades").json()
    body["data"][0]["novel"] = 1
    with pytest.raises(ValidationError):
        Envelope[Trade].model_validate(body, strict=True, extra="forbid")


@pytest.mark.parametrize("path", list(ROUTES))
def test_answer_names_its_snapshot_as_text(full: Lake, client: TestClient, path: str) -> None:
    meta = client.get(path).json()["meta"]
    assert isinstance(meta["snapshot_id"], str)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", meta["as_of"])


@pytest.mark.parametrize("path", list(ROUTES))
@pytest.mark.parametrize(("headers", "refusal"), [({}, (401, "no_key")), ({"X-API-Key": "other"}, (403, "wrong_key"))])
def test_data_need_the_key(
    full: Lake, client: TestClient, path: str, headers: dict[str, str], refusal: tuple[int, str]
) -> None:
    del client.headers["X-API-Key"]
    answer = client.get(path + ("&" if "?" in path else "?") + "nonsense=1", headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == refusal


def test_key_that_is_not_ascii_is_wrong_not_an_error(client: TestClient) -> None:
    assert client.get("/v1/symbols", headers={"X-API-Key": "schlüssel".encode()}).status_code == 403


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("sybol=BTCUSDT", "sybol: is not a parameter of this route"),
        ("symbol=BTCUSDT&symbol=ETHUSDT", "symbol: given more than once"),
        ("limit=0", "limit:"),
        ("limit=10001", "limit:"),
        ("limit=many", "limit:"),
        ("order=up", "order:"),
        ("format=xml", "format:"),
        ("symbol=BTC/USD/T", "symbol:"),
        ("exchange=binance,,kraken", "exchange.1:"),
        ("start_time=yesterday", "start_time: 'yesterday' is not a time"),
        ("start_time=2024-02-30", "start_time: '2024-02-30' is not a time that exists"),
        ("start_time=2024-01-02&end_time=2024-01-02", "start_time must be before end_time"),
    ],
)
def test_bad_parameter_is_422_and_named(client: TestClient, query: str, words: str) -> None:
    answer = client.get(f"/v1/trades?{query}")
    assert answer.status_code == 422
    problem = ErrorEnvelope.model_validate(answer.json(), strict=True, extra="forbid").error
    assert problem.code == "invalid_parameters"
    assert words in problem.message


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/v1/nothing", 404), ("POST", "/v1/trades", 405)])
def test_unknown_route_or_method_is_in_the_envelope(client: TestClient, method: str, path: str, status: int) -> None:
    answer = client.request(method, path)
    assert answer.status_code == status
    ErrorEnvelope.model_validate(answer.json(), strict=True, extra="forbid")
    assert answer.headers["Cache-Control"] == "no-store"


def test_correlation_id_is_taken_and_returned(client: TestClient) -> None:
    answer = client.get("/v1/symbols", headers={"X-Correlation-ID": "mine-1"})
    assert answer.headers["X-Correlation-ID"] == answer.json()["meta"]["correlation_id"] == "mine-1"


@pytest.mark.parametrize("given", [None, "two words", "x" * 129, "bad\tone"])
def test_correlation_id_is_made_when_there_is_no_fit_one(client: TestClient, given: str | None) -> None:
    answer = client.get("/v1/symbols", headers={"X-Correlation-ID": given} if given else {})
    assert uuid.UUID(answer.headers["X-Correlation-ID"]).version == 4


@pytest.mark.parametrize(("path", "seconds"), list(zip(ROUTES, (5, 5, 300), strict=True)))
def test_unchanged_answer_is_304_until_its_table_changes(
    full: Lake, client: TestClient, path: str, seconds: int
) -> None:
    first = client.get(path)
    assert first.headers["Cache-Control"] == f"private, max-age={seconds}"
    known = {"If-None-Match": first.headers["ETag"]}
    again = client.get(path, headers=known)
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["ETag"] == first.headers["ETag"]
    full.add(trades_from(6, 1, at="2024-08-08T23:57:00Z"))
    full.add_candles([a_candle("2024-08-08T23:57:00Z")])
    assert client.get(path, headers=known).status_code == 200


def test_another_question_has_another_etag(full: Lake, client: TestClient) -> None:
    tags = {client.get(f"/v1/trades?limit={limit}").headers["ETag"] for limit in (1, 2, 3)}
    assert len(tags) == 3


def test_internal_error_says_nothing_of_its_cause(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[str] = []
    monkeypatch.setattr(middleware.log, "exception", lambda *_, **__: logged.append(traceback.format_exc()))

    def broken(*_: object) -> None:
        raise RuntimeError("the secret of the house")

    monkeypatch.setattr("k2_api.routes.symbols.list_symbols", broken)
    answer = client.get("/v1/symbols")
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "internal_error"
    assert "secret" not in answer.text
    assert answer.headers["X-Correlation-ID"] == answer.json()["meta"]["correlation_id"]
    assert "the secret of the house" in "".join(logged)


def test_query_that_takes_too_long_is_504(tmp_path: Path, client_of: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = Lake(tmp_path / "home", {"query_timeout_s": 0.2})
    lake.add([a_trade()])
    client = client_of(lake)
    endless = "SELECT count(*) FROM @rows, range(1000000000000) AS n(i) WHERE hash(i) % 7 = 3 AND $rows > 0"
    monkeypatch.setattr("k2_api.queries.row_pages._sql", lambda *_, **__: endless)
    answer = client.get("/v1/trades")
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "query_timed_out")
    monkeypatch.undo()
    assert client.get("/v1/trades").status_code == 200
    lake.catalog.engine.dispose()


def test_query_that_needs_too_much_memory_is_413(
    tmp_path: Path, client_of: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake(tmp_path / "home", {"query_memory_mb": 64})
    lake.add([a_trade()])
    client = client_of(lake)
    greedy = "SELECT list(i || 'xxxxxxxxxxxxxxxx') FROM @rows, range(50000000) AS n(i) WHERE $rows > 0"
    monkeypatch.setattr("k2_api.queries.row_pages._sql", lambda *_, **__: greedy)
    answer = client.get("/v1/trades")
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "query_too_large")
    lake.catalog.engine.dispose()


def test_catalog_that_cannot_be_read_is_503_and_heals(lake: Lake, client: TestClient) -> None:
    lake.add([a_trade()])
    assert client.get("/v1/trades").status_code == 200
    database = lake.home / "catalog.db"
    with sqlite3.connect(database) as connection:
        connection.execute("ALTER TABLE iceberg_tables RENAME TO away")
    connection.close()
    answer = client.get("/v1/trades")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "lake_unavailable")
    assert client.get("/ready").status_code == 503
    with sqlite3.connect(database) as connection:
        connection.execute("ALTER TABLE away RENAME TO iceberg_tables")
    connection.close()
    assert client.get("/v1/trades").status_code == 200


def test_routes_answer_before_the_tables_are_made(tmp_path: Path) -> None:
    settings = Settings.model_validate({"home": tmp_path / "home", "api": {"key": KEY}})
    with TestClient(create_app(settings), headers={"X-API-Key": KEY}) as client:
        for path in ROUTES:
            answer = client.get(path).json()
            assert (answer["success"], answer["data"], answer["meta"]["snapshot_id"]) == (True, [], None)
