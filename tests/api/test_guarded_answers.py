"""What surrounds every answer: an audit line without secrets, a limit for bodies, headers for browsers, CORS."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, Request
from starlette.testclient import TestClient

from k2_api.app import create_app
from k2_api.http import middleware
from k2_api.http.body_limit import MAX_BODY_BYTES
from k2_api.http.response_models import ErrorEnvelope
from k2_core.errors import SettingsError
from k2_core.settings import Settings, load_settings
from tests.api.keys import a_key, revoke
from tests.api.lakes import KEY, Lake, trades_from

Line = dict[str, Any]


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[Line]:
    """The log lines of requests, as they come."""
    logged: list[Line] = []
    monkeypatch.setattr(middleware.log, "info", lambda text, **fields: logged.append({"event": text, **fields}))
    return logged


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[TestClient]:
    """An API without a lake, with a route that reads a body."""
    app: FastAPI = create_app(Settings.model_validate({"home": tmp_path, "api": {"key": KEY}}))

    @app.post("/echo")
    async def echo(request: Request) -> int:
        return len(await request.body())

    with TestClient(app) as client:
        yield client


def test_each_request_for_data_has_an_audit_line(lake: Lake, client: TestClient, lines: list[Line]) -> None:
    lake.add(trades_from(1, 3))
    key, key_id = a_key(lake.settings, exchanges=("binance",))
    client.headers["X-API-Key"] = key
    answers = [client.get(f"/v1/trades{query}") for query in ("?limit=2&symbol=btcusdt", "?exchange=kraken")]
    cursor = answers[0].json()["pagination"]["next_cursor"]
    answers.append(client.get(f"/v1/trades?limit=2&symbol=btcusdt&cursor={cursor}"))
    assert [{name: line[name] for name in ("key", "question", "rows", "status")} for line in lines] == [
        {"key": key_id, "question": "/v1/trades?limit=2&symbol=btcusdt", "rows": 2, "status": 200},
        {"key": key_id, "question": "/v1/trades?exchange=kraken", "rows": 0, "status": 403},
        {"key": key_id, "question": "/v1/trades?limit=2&symbol=btcusdt&cursor=hidden", "rows": 1, "status": 200},
    ]
    assert [line["bytes"] for line in lines] == [len(answer.content) for answer in answers]
    assert all(line["ms"] > 0 for line in lines)
    assert cursor not in str(lines)


def test_the_line_of_a_question_that_is_a_body_has_it_without_what_gives_access(
    lake: Lake, client: TestClient, lines: list[Line]
) -> None:
    lake.add(trades_from(1, 3))
    first = client.post("/v1/trades/query", json={"symbols": ["btc/usdt"], "limit": 2}).json()
    cursor = first["pagination"]["next_cursor"]
    client.post("/v1/trades/query", json={"symbols": ["btc/usdt"], "limit": 2, "cursor": cursor})
    client.post("/v1/trades/query", json={"symbols": [KEY], "as_of": KEY})

    assert [(line["question"], line["rows"]) for line in lines] == [("/v1/trades/query", n) for n in (2, 1, 0)]
    assert json.loads(str(lines[0]["body"]))["symbols"] == ["BTCUSDT"]
    assert lines[1]["body"] == lines[0]["body"]
    assert KEY not in json.dumps(lines)
    assert KEY.upper() not in json.dumps(lines)


def test_a_key_is_in_no_line_wherever_somebody_puts_it(lake: Lake, client: TestClient, lines: list[Line]) -> None:
    key, key_id = a_key(lake.settings)
    for secret in (key, KEY):
        escaped = "".join(f"%{ord(letter):02X}" for letter in secret)
        for put in (f"api_key={secret}", f"X-API-Key={secret}", f"symbol={secret}", f"limit=1&symbol={escaped}"):
            client.get(f"/v1/trades?{put}")
        client.get("/v1/trades", headers={"X-API-Key": secret})
    client.get(f"/v1/trades?{key}=1")
    client.get(f"/v1/{key}")
    revoke(lake.settings, key_id)
    client.get("/v1/trades", headers={"X-API-Key": f"{key}x"})
    assert len(lines) == 13
    assert key not in json.dumps(lines)
    assert KEY not in json.dumps(lines)


def test_the_line_of_a_refused_key_names_it_if_it_is_known(lake: Lake, client: TestClient, lines: list[Line]) -> None:
    key, key_id = a_key(lake.settings)
    revoke(lake.settings, key_id)
    for text in (key, "k2_" + "A" * 43, ""):
        client.get("/v1/symbols", headers={"X-API-Key": text})
    assert [(line["key"], line["status"]) for line in lines] == [(key_id, 403), (None, 403), (None, 401)]


def test_lines_of_the_system_routes_are_no_audit(bare: TestClient, lines: list[Line]) -> None:
    bare.get("/health?probe=1")
    assert [(line["path"], "question" in line, "key" in line) for line in lines] == [("/health", False, False)]


def test_a_body_as_large_as_may_be_is_read(bare: TestClient) -> None:
    assert bare.post("/echo", content=b"x" * MAX_BODY_BYTES).json() == MAX_BODY_BYTES


@pytest.mark.parametrize("chunked", [False, True])
def test_a_larger_body_is_413(bare: TestClient, chunked: bool) -> None:
    parts = [b"x" * MAX_BODY_BYTES, b"x"]
    answer = bare.post("/echo", content=iter(parts) if chunked else b"".join(parts))
    assert answer.status_code == 413
    problem = ErrorEnvelope.model_validate(answer.json(), strict=True, extra="forbid").error
    assert problem.code == "body_too_large"
    assert answer.headers["Connection"] == "close"


def test_a_larger_body_is_413_on_every_route(bare: TestClient) -> None:
    for path in ("/v1/trades", "/health", "/nowhere"):
        answer = bare.request("GET", path, headers={"Content-Length": str(MAX_BODY_BYTES + 1)})
        assert answer.status_code == 413


def test_every_answer_tells_browsers_to_be_careful(bare: TestClient) -> None:
    for path in ("/health", "/v1/trades", "/nowhere", "/openapi.json", "/docs", "/redoc"):
        headers = bare.get(path).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]


def test_scripts_run_on_the_pages_of_the_documentation_alone(bare: TestClient) -> None:
    for path in ("/docs", "/redoc"):
        policy = bare.get(path).headers["Content-Security-Policy"]
        assert "script-src 'self' 'unsafe-inline'" in policy
        assert "http" not in policy
    assert "script-src" not in bare.get("/v1/trades").headers["Content-Security-Policy"]


def served_to(origins: list[str], tmp_path: Path) -> TestClient:
    return TestClient(create_app(Settings.model_validate({"home": tmp_path, "api": {"cors_origins": origins}})))


def test_pages_of_other_origins_are_let_in_by_a_setting_alone(tmp_path: Path) -> None:
    mine = {"Origin": "https://mine.example"}
    preflight = {**mine, "Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "X-API-Key"}
    with served_to([], tmp_path) as client:
        assert "Access-Control-Allow-Origin" not in client.get("/health", headers=mine).headers
        assert client.options("/v1/trades", headers=preflight).status_code == 405
    with served_to(["https://mine.example"], tmp_path) as client:
        answer = client.get("/health", headers=mine)
        assert answer.headers["Access-Control-Allow-Origin"] == "https://mine.example"
        assert "X-RateLimit-Remaining" in answer.headers["Access-Control-Expose-Headers"]
        assert client.options("/v1/trades", headers=preflight).status_code == 200
        other = client.get("/health", headers={"Origin": "https://other.example"})
        assert "Access-Control-Allow-Origin" not in other.headers


@pytest.mark.parametrize("origin", ["mine.example", "https://mine.example/", "https://mine.example/page", "null"])
def test_an_origin_that_no_browser_sends_is_refused(monkeypatch: pytest.MonkeyPatch, origin: str) -> None:
    monkeypatch.setenv("K2_API__CORS_ORIGINS", json.dumps([origin]))
    with pytest.raises(SettingsError, match="K2_API__CORS_ORIGINS"):
        load_settings()
