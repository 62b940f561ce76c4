from datetime import timedelta
from typing import Any

import pytest
from starlette.testclient import TestClient

from k2_api.timestamps import parse_moment
from k2_core.lake.tables import GOLD_OHLCV_1M
from tests.api.lakes import Lake, Row, a_candle, a_trade, trades_from

EMPTY = {"status": "unknown", "missing_trades": 0, "gaps": [], "data_until": None}


def candles_from(start: str, count: int, **other: Any) -> list[Row]:
    first = parse_moment(start)
    return [a_candle((first + step * timedelta(minutes=1)).isoformat(), **other) for step in range(count)]


def starts(answer: Any) -> list[str]:
    return [row["window_start"][11:16] for row in answer["data"]]


def completeness(client: TestClient, **params: str) -> Any:
    return client.get("/v1/ohlcv/1m", params={"symbol": "BTCUSDT"} | params).json()["meta"]["completeness"]


def test_candle_has_every_field(lake: Lake, client: TestClient) -> None:
    lake.add_candles([a_candle()])
    [candle] = client.get("/v1/ohlcv/1m?symbol=btcusdt").json()["data"]
    assert candle == {
        "symbol": "BTCUSDT",
        "exchange": "binance",
        "window_start": "2024-08-08T23:55:00.000000Z",
        "window_end": "2024-08-08T23:56:00.000000Z",
        "window_date": "2024-08-08",
        "open_price": "100",
        "high_price": "101.5",
        "low_price": "99.000000000001",
        "close_price": "100.1",
        "volume": "12.5",
        "quote_volume": "1251.25",
        "trade_count": 3,
        "vwap": "100.1",
        "first_trade_id": "1",
        "last_trade_id": "3",
        "is_complete": True,
        "missing_trades": 0,
        "created_at": "2024-08-08T23:55:00.000000Z",
        "updated_at": "2024-08-08T23:55:00.000000Z",
    }


def test_symbol_is_required(client: TestClient) -> None:
    answer = client.get("/v1/ohlcv/1m")
    assert answer.status_code == 422
    assert answer.json()["error"]["details"] == [{"parameter": "symbol", "problem": "Field required"}]


def test_parameter_that_is_not_served_is_refused(client: TestClient) -> None:
    answer = client.get("/v1/ohlcv/1m?symbol=BTCUSDT&include_partial=true")
    assert answer.status_code == 422
    assert "include_partial: is not a parameter of this route" in answer.json()["error"]["message"]


def test_a_timeframe_that_is_not_stored_is_refused(client: TestClient) -> None:
    answer = client.get("/v1/ohlcv/7m?symbol=BTCUSDT")
    assert answer.status_code == 422
    assert answer.json()["error"]["code"] == "invalid_parameters"


def test_without_start_the_newest_are_meant_and_pages_go_back(lake: Lake, client: TestClient) -> None:
    lake.add_candles(candles_from("2024-08-08T23:55:00Z", 10))
    first = client.get("/v1/ohlcv/1m?symbol=BTCUSDT&limit=4").json()
    assert starts(first) == ["00:01", "00:02", "00:03", "00:04"]
    cursor = first["pagination"]["next_cursor"]
    second = client.get("/v1/ohlcv/1m", params={"symbol": "BTCUSDT", "limit": 4, "cursor": cursor}).json()
    assert starts(second) == ["23:57", "23:58", "23:59", "00:00"]


def test_with_start_the_oldest_come_first_and_pages_go_on(lake: Lake, client: TestClient) -> None:
    lake.add_candles(candles_from("2024-08-08T23:55:00Z", 10))
    params = {"symbol": "BTCUSDT", "start": "2024-08-08T23:56:00Z", "end": "2024-08-09T00:03:00Z", "limit": 4}
    first = client.get("/v1/ohlcv/1m", params=params).json()
    second = client.get("/v1/ohlcv/1m", params=params | {"cursor": first["pagination"]["next_cursor"]}).json()
    assert starts(first) + starts(second) == ["23:56", "23:57", "23:58", "23:59", "00:00", "00:01", "00:02"]
    assert second["pagination"] == {"limit": 4, "next_cursor": None, "has_more": False}


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 100])
@pytest.mark.parametrize("start", [None, "2024-08-08T23:00:00Z"])
def test_pages_concatenate_to_the_whole(lake: Lake, client: TestClient, limit: int, start: str | None) -> None:
    for exchange in ("binance", "kraken"):
        rows = candles_from("2024-08-08T23:55:00Z", 7, exchange=exchange)
        lake.add_candles(rows[3:])
        lake.add_candles(rows[:3])
    params: dict[str, Any] = {"symbol": "BTCUSDT"} | ({"start": start} if start else {})
    whole = client.get("/v1/ohlcv/1m", params=params).json()["data"]
    found: list[Row] = []
    page = client.get("/v1/ohlcv/1m", params=params | {"limit": limit}).json()
    while True:
        found = found + page["data"] if start else page["data"] + found
        if not page["pagination"]["has_more"]:
            break
        more = params | {"limit": limit, "cursor": page["pagination"]["next_cursor"]}
        page = client.get("/v1/ohlcv/1m", params=more).json()
    assert found == whole
    assert len(whole) == 14


def test_replaced_candle_is_served_once(lake: Lake, client: TestClient) -> None:
    lake.add_candles(candles_from("2024-08-08T23:55:00Z", 3))
    again = [a_candle("2024-08-08T23:56:00Z", trade_count=9)]
    lake.replace("2024-08-08T23:56:00+00:00", "2024-08-08T23:57:00+00:00", again, GOLD_OHLCV_1M)
    rows = client.get("/v1/ohlcv/1m?symbol=BTCUSDT").json()["data"]
    assert [row["trade_count"] for row in rows] == [3, 9, 3]


def test_newest_candle_is_served_although_it_is_not_proven(lake: Lake, client: TestClient) -> None:
    lake.add(trades_from(1, 3))
    lake.add_candles([a_candle(), a_candle("2024-08-08T23:56:00Z", complete=False)])
    answer = client.get("/v1/ohlcv/1m?symbol=BTCUSDT").json()
    assert [row["is_complete"] for row in answer["data"]] == [True, False]
    assert answer["meta"]["completeness"]["status"] == "unknown"
    assert completeness(client, end="2024-08-08T23:56:00Z")["status"] == "complete"


def test_no_candles_are_unknown(client: TestClient) -> None:
    assert completeness(client) == EMPTY


def test_hole_on_a_boundary_counts_once(lake: Lake, client: TestClient) -> None:
    trades = trades_from(1, 18, every_ms=10_000)  # three minutes, ids 1 to 18
    lake.add([trade for trade in trades if trade["source_sequence"] not in {6, 7}])
    candles = [
        a_candle("2024-08-08T23:55:00Z", missing=2),
        a_candle("2024-08-08T23:56:00Z", missing=2),
        a_candle("2024-08-08T23:57:00Z", complete=False),
    ]
    lake.add_candles(candles)
    assert completeness(client) == {
        "status": "partial",
        "missing_trades": 2,
        "gaps": [
            {
                "exchange": "binance",
                "symbol": "BTCUSDT",
                "start": "2024-08-08T23:55:40.000000Z",
                "end": "2024-08-08T23:56:10.000000Z",
                "missing": 2,
                "state": "open",
            }
        ],
        "data_until": "2024-08-08T23:57:50.000000Z",
    }


def test_hole_before_the_first_window_is_seen_from_the_trade_before_it(lake: Lake, client: TestClient) -> None:
    lake.add([a_trade(1, at="2024-08-07T03:00:00Z")])
    lake.add(trades_from(5, 6, every_ms=10_000))
    lake.add_candles([a_candle(missing=3, complete=False)])
    found = completeness(client)
    assert found["missing_trades"] == 3
    assert found["gaps"][0]["start"] == "2024-08-07T03:00:00.000000Z"


def test_trade_out_of_order_is_not_missing_but_a_lagging_candle_still_counts(lake: Lake, client: TestClient) -> None:
    rows = trades_from(1, 12, every_ms=10_000)
    rows[2]["timestamp"] = rows[10]["timestamp"]  # id 3 is in the next minute
    lake.add(rows)
    lake.add_candles([a_candle(missing=1), a_candle("2024-08-08T23:56:00Z")])
    found = completeness(client)
    assert (found["status"], found["missing_trades"], found["gaps"]) == ("partial", 1, [])


def test_holes_of_several_exchanges_are_kept_apart(lake: Lake, client: TestClient) -> None:
    for exchange, absent in (("binance", 3), ("kraken", 4)):
        rows = trades_from(1, 6, every_ms=10_000, exchange=exchange)
        lake.add([row for row in rows if row["source_sequence"] != absent])
    lake.add_candles([a_candle(missing=1), a_candle(missing=1, exchange="kraken")])
    found = completeness(client)
    assert found["missing_trades"] == 2
    assert [gap["exchange"] for gap in found["gaps"]] == ["binance", "kraken"]
    assert completeness(client, exchange="kraken")["missing_trades"] == 1


def test_repair_that_candles_have_not_seen_leaves_their_own_count(lake: Lake, client: TestClient) -> None:
    rows = trades_from(1, 6, every_ms=10_000)
    lake.add([row for row in rows if row["source_sequence"] != 3])
    lake.add_candles([a_candle(missing=1)])
    lake.add([row for row in rows if row["source_sequence"] == 3])
    found = completeness(client)
    assert (found["status"], found["missing_trades"]) == ("partial", 1)


def test_quote_volume_that_did_not_fit_is_null(lake: Lake, client: TestClient) -> None:
    lake.add_candles([a_candle(quote_volume=None)])
    assert client.get("/v1/ohlcv/1m?symbol=BTCUSDT").json()["data"][0]["quote_volume"] is None
