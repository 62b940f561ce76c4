import re
from pathlib import Path

from prometheus_client import REGISTRY
from starlette.testclient import TestClient

from k2_api.app import create_app
from k2_core.lake.tables import CANDLES
from k2_core.settings import Settings
from tests.api.lakes import Lake, a_trade, trades_from


def test_health_needs_no_key(client: TestClient) -> None:
    del client.headers["X-API-Key"]
    answer = client.get("/health")
    assert (answer.status_code, answer.json()["data"]["status"]) == (200, "ok")


def test_ready_names_the_tables_that_are_not_made(tmp_path: Path) -> None:
    with TestClient(create_app(Settings(home=tmp_path / "home"))) as client:
        answer = client.get("/ready")
    assert answer.status_code == 503
    assert answer.json()["error"]["details"] == {
        "missing_tables": [
            "gold_crypto_trades",
            "gold_crypto_quotes",
            *(spec.name for spec in CANDLES),
            "reference_instruments",
        ]
    }


def test_ready_when_the_tables_are_there_even_empty(client: TestClient) -> None:
    assert client.get("/ready").status_code == 200


def test_symbols_tell_how_much_there_is_of_each(lake: Lake, client: TestClient) -> None:
    lake.add([*trades_from(1, 3), a_trade(1, symbol="ETHUSDT")])
    lake.add(trades_from(4, 2, at="2024-08-09T00:00:00Z"))
    lake.add([a_trade(1, exchange="kraken")])
    answer = client.get("/v1/symbols?exchange=binance").json()
    assert answer["data"] == [
        {
            "symbol": "BTCUSDT",
            "exchange": "binance",
            "trade_count": 5,
            "first_trade_at": "2024-08-08T23:55:00.000000Z",
            "last_trade_at": "2024-08-09T00:00:01.000000Z",
        },
        {
            "symbol": "ETHUSDT",
            "exchange": "binance",
            "trade_count": 1,
            "first_trade_at": "2024-08-08T23:55:00.000000Z",
            "last_trade_at": "2024-08-08T23:55:00.000000Z",
        },
    ]
    assert [row["exchange"] for row in client.get("/v1/symbols").json()["data"]] == ["binance", "kraken", "binance"]


def test_requests_are_counted_by_route_template(lake: Lake, client: TestClient) -> None:
    lake.add([a_trade()])

    def count(endpoint: str, status: str) -> float:
        labels = {"method": "GET", "endpoint": endpoint, "status_code": status}
        return REGISTRY.get_sample_value("k2_http_requests_total", labels) or 0

    before = count("/v1/trades", "200"), count("unmatched", "404"), count("/v1/trades", "422")
    client.get("/v1/trades?symbol=BTCUSDT")
    client.get("/v1/trades?symbol=ETHUSDT")
    client.get("/v1/trades?limit=0")
    client.get("/secret/path")
    after = count("/v1/trades", "200"), count("unmatched", "404"), count("/v1/trades", "422")
    assert [new - old for new, old in zip(after, before, strict=True)] == [2, 1, 1]


def test_metrics_are_served_in_prometheus_text(lake: Lake, client: TestClient) -> None:
    lake.add([a_trade()])
    client.get("/v1/trades")
    text = client.get("/metrics").text
    for name in (
        'k2_http_requests_total{endpoint="/v1/trades",method="GET",status_code="200"}',
        "k2_http_request_duration_seconds_bucket",
        'k2_http_requests_in_progress{method="GET"} 1.0',
        "k2_http_response_bytes_sum",
        'k2_query_executions_total{engine="duckdb",query_type="trades"}',
        "k2_query_duration_seconds_count",
        "k2_query_rows_returned_sum",
    ):
        assert name in text


def test_documentation_needs_no_other_machine(client: TestClient) -> None:
    assert client.get("/", follow_redirects=False).headers["location"] == "docs"
    for page in ("/docs", "/redoc"):
        html = client.get(page).text
        assert not re.findall(r'(?:src|href)="https?://', html)
        assets = re.findall(r'(?:src|href)="(/[^"]+\.(?:js|css|png))"', html)
        assert assets
        for asset in assets:
            assert client.get(asset).status_code == 200


def test_openapi_describes_the_key_and_every_parameter(client: TestClient) -> None:
    schema = client.get("/openapi.json").json()
    assert schema["components"]["securitySchemes"]["key"] == {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-Key",
        "description": "your key; `k2 status --json` shows it",
    }
    operation = schema["paths"]["/v1/trades"]["get"]
    assert operation["security"] == [{"key": []}]
    names = {parameter["name"] for parameter in operation["parameters"]}
    assert names == {
        "symbol", "exchange", "start_time", "end_time", "limit", "cursor", "order", "as_of", "format"
    }  # fmt: skip
    assert {"401", "403", "404", "410", "422", "503", "504"} <= set(operation["responses"])
