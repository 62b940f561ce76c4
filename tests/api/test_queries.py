import json
from typing import Any

import pytest
from starlette.testclient import TestClient

from k2_api.queries import row_pages
from k2_core.lake.tables import GOLD_QUOTES
from tests.api.lakes import Lake, a_quote, a_trade, trades_from


def ids(answer: Any, name: str = "trade_id") -> list[str]:
    assert answer.status_code == 200, answer.text
    return [row[name] for row in answer.json()["data"]]


def test_quotes_come_newest_first_and_page_by_page(lake: Lake, client: TestClient) -> None:
    lake.add([a_quote(n, sequence=n if n % 2 else None) for n in range(1, 8)], GOLD_QUOTES)
    first = client.get("/v1/quotes?symbol=BTCUSDT&limit=4")
    rest = client.get("/v1/quotes", params={"symbol": "BTCUSDT", "cursor": first.json()["pagination"]["next_cursor"]})

    # All of one microsecond: those that have no sequence of the venue's come first.
    assert ids(first, "quote_id") + ids(rest, "quote_id") == ["7", "5", "3", "1", "6", "4", "2"]
    assert first.json()["meta"]["completeness"]["status"] == "unknown"
    assert first.json()["data"][0] | {"message_id": ""} == {
        "message_id": "",
        "quote_id": "7",
        "symbol": "BTCUSDT",
        "exchange": "binance",
        "asset_class": "crypto",
        "timestamp": "2024-08-08T23:55:00.000000Z",
        "bid_price": "100.5",
        "bid_quantity": "2",
        "ask_price": None,
        "ask_quantity": None,
        "currency": "USDT",
        "source_sequence": 7,
        "ingestion_timestamp": "2024-08-08T23:55:00.000000Z",
        "platform_sequence": 7,
        "vendor_data": {},
    }


def test_many_symbols_are_in_one_order_of_time(lake: Lake, client: TestClient) -> None:
    lake.add(trades_from(1, 50, every_ms=100))
    lake.add([a_trade(1, "2024-08-08T23:55:04.950Z", symbol="RAREUSDT")])
    lake.add([a_trade(1, "2024-08-08T23:55:04.950Z", symbol="OTHERUSDT")])
    asked = {"symbols": ["BTC/USDT", "rareusdt"], "limit": 2, "fields": ["symbol", "trade_id"]}

    assert client.post("/v1/trades/query", json=asked).json()["data"] == [
        {"symbol": "RAREUSDT", "trade_id": "1"},
        {"symbol": "BTCUSDT", "trade_id": "50"},
    ]


def test_prices_and_quantities_may_be_bounded(lake: Lake, client: TestClient) -> None:
    lake.add([a_trade(n, f"2024-08-08T23:55:0{n}Z", price=f"{n}.5", quantity=f"{n}") for n in range(1, 9)])
    asked: dict[str, Any] = {"min_price": "2.5", "max_price": "6.5", "min_quantity": 3, "limit": 2, "order": "asc"}
    first = client.post("/v1/trades/query", json=asked)
    rest = client.post("/v1/trades/query", json=asked | {"cursor": first.json()["pagination"]["next_cursor"]})

    assert ids(first) + ids(rest) == ["3", "4", "5", "6"]
    assert first.json()["meta"]["completeness"]["status"] == "unknown"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"fields": ["price", "secret"]}, "fields.1:"),
        ({"fields": ["price; DROP TABLE x"]}, "fields.0:"),
        ({"symbols": ["A"] * 101}, "symbols:"),
        ({"limit": 100_001}, "limit: JSON holds up to 100,000 rows"),
        ({"limit": 10_000_001, "format": "csv"}, "limit:"),
        ({"min_price": "1e99"}, "min_price:"),
        ({"min_price": "NaN"}, "min_price:"),
        ({"start_time": True}, "start_time:"),
        ({"start_time": "2024-01-02", "end_time": 1_700_000_000_000, "unknown": 1}, "unknown: is not a parameter"),
        ([], "body:"),
    ],
)
def test_bad_body_is_422_and_named(client: TestClient, body: Any, words: str) -> None:
    answer = client.post("/v1/trades/query", json=body)

    assert answer.status_code == 422
    assert words in answer.json()["error"]["message"]


def test_more_rows_than_a_page_are_sent_as_they_are_read(
    lake: Lake, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_pages, "_FIRST_PIECE", 7)
    monkeypatch.setattr(row_pages, "_PIECE", 16)
    for part in range(4):
        lake.add(trades_from(part * 25 + 1, 25, at=f"2024-08-08T23:5{part}:00Z"))
    answer = client.post("/v1/trades/query", json={"limit": 1_000_000, "format": "ndjson", "order": "asc"})

    assert answer.headers["X-Record-Count"] == "100"
    assert [json.loads(line)["trade_id"] for line in answer.text.splitlines()] == [str(n) for n in range(1, 101)]


def test_a_snapshot_is_shown_as_it_was(lake: Lake, client: TestClient) -> None:
    before = lake.add(trades_from(1, 3))
    lake.add(trades_from(4, 3, at="2024-08-08T23:56:00Z"))

    assert ids(client.post(f"/v1/snapshots/{before}/query", json={"symbol": "BTCUSDT"})) == ["3", "2", "1"]
    assert client.post("/v1/snapshots/12345/query", json={}).status_code == 404
    assert client.post("/v1/snapshots/../query", json={}).status_code == 404


def test_a_replay_goes_forward_over_many_symbols_and_shows_one_snapshot(lake: Lake, client: TestClient) -> None:
    for symbol in ("BTCUSDT", "ETHUSDT"):
        lake.add(trades_from(1, 80, every_ms=500, symbol=symbol))
    asked = {"symbols": ["BTCUSDT", "ETHUSDT"], "start": "2024-08-08", "end": "2024-08-09", "batch_size": 100}
    first = client.post("/v1/replay", json=asked).json()
    lake.add(trades_from(1, 80, every_ms=500, exchange="kraken"))
    second = client.post("/v1/replay", json=asked | {"cursor": first["pagination"]["next_cursor"]}).json()

    found = [(row["timestamp"], row["symbol"], row["trade_id"]) for row in first["data"] + second["data"]]
    assert len(found) == len(set(found)) == 160
    assert [time for time, _, _ in found] == sorted(time for time, _, _ in found)
    assert second["pagination"]["next_cursor"] is None
