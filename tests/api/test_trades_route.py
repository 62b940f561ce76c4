import random
from typing import Any

import pytest
from starlette.testclient import TestClient

from k2_core.trades import message_id
from tests.api.lakes import Lake, a_candle, a_trade, trades_from


def ids(answer: Any) -> list[str]:
    return [row["trade_id"] for row in answer["data"]]


def pages(client: TestClient, **params: Any) -> list[Any]:
    """Follow the cursor to the end."""
    found = []
    cursor = None
    while True:
        answer = client.get("/v1/trades", params=params | ({"cursor": cursor} if cursor else {})).json()
        assert answer["success"], answer
        found.append(answer)
        cursor = answer["pagination"]["next_cursor"]
        assert answer["pagination"]["has_more"] == (cursor is not None)
        if cursor is None:
            return found


def test_trade_has_every_field_with_exact_numbers_and_times(lake: Lake, client: TestClient) -> None:
    lake.add([a_trade(7, at="2024-08-08T23:55:00.123456Z", price="0.000000000001", quantity="100")])
    [trade] = client.get("/v1/trades").json()["data"]
    assert trade == {
        "message_id": message_id("binance", "BTCUSDT", "7"),
        "trade_id": "7",
        "symbol": "BTCUSDT",
        "exchange": "binance",
        "asset_class": "crypto",
        "timestamp": "2024-08-08T23:55:00.123456Z",
        "price": "0.000000000001",
        "quantity": "100",
        "currency": "USDT",
        "side": "BUY",
        "trade_conditions": [],
        "source_sequence": 7,
        "ingestion_timestamp": "2024-08-08T23:55:00.123456Z",
        "platform_sequence": 7,
        "vendor_data": {"E": "1723161300000"},
    }


@pytest.mark.parametrize(
    ("stored", "shown"),
    [
        ("61837.63", "61837.63"),
        ("0.02", "0.02"),
        ("100", "100"),
        ("1000000000", "1000000000"),
        ("9999999999999999.999999999999", "9999999999999999.999999999999"),
    ],
)
def test_price_is_text_without_trailing_zeros_or_exponent(
    lake: Lake, client: TestClient, stored: str, shown: str
) -> None:
    lake.add([a_trade(price=stored)])
    assert client.get("/v1/trades").json()["data"][0]["price"] == shown


def test_newest_come_first_and_order_asc_turns_them_round(lake: Lake, client: TestClient) -> None:
    lake.add(trades_from(10, 5))
    lake.add(trades_from(1, 5, at="2024-08-08T23:54:00Z"))
    lake.add(trades_from(20, 5, at="2024-08-09T00:01:00Z"))
    expected = [str(number) for number in [*range(1, 6), *range(10, 15), *range(20, 25)]]
    assert ids(client.get("/v1/trades").json()) == expected[::-1]
    assert ids(client.get("/v1/trades", params={"order": "asc"}).json()) == expected


def test_trades_of_one_microsecond_are_ordered_by_sequence_as_a_number(lake: Lake, client: TestClient) -> None:
    lake.add([a_trade(9), a_trade(100), a_trade(10)])
    assert ids(client.get("/v1/trades").json()) == ["100", "10", "9"]


def test_start_is_inclusive_and_end_exclusive(lake: Lake, client: TestClient) -> None:
    lake.add(trades_from(1, 10))
    params = {"start_time": "2024-08-08T23:55:02Z", "end_time": "2024-08-08T23:55:05Z"}
    assert ids(client.get("/v1/trades", params=params).json()) == ["5", "4", "3"]


def test_offset_whose_plus_became_a_space_is_understood(lake: Lake, client: TestClient) -> None:
    lake.add(trades_from(1, 10))
    answer = client.get("/v1/trades?start_time=2024-08-09T01:55:08+02:00").json()
    assert ids(answer) == ["10", "9"]


def test_symbol_and_exchange_filter_in_any_case(lake: Lake, client: TestClient) -> None:
    lake.add([a_trade(1), a_trade(2, symbol="ETHUSDT"), a_trade(3, exchange="kraken")])
    assert ids(client.get("/v1/trades?symbol=ethusdt").json()) == ["2"]
    assert ids(client.get("/v1/trades?symbol=BTCUSDT&exchange=KRAKEN").json()) == ["3"]


def test_unknown_symbol_has_no_trades(lake: Lake, client: TestClient) -> None:
    lake.add([a_trade(1)])
    answer = client.get("/v1/trades?symbol=NOSUCH").json()
    assert answer["success"] is True
    assert answer["data"] == []
    assert answer["meta"]["completeness"] == {"status": "unknown", "missing_trades": 0, "gaps": [], "data_until": None}


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("limit", [1, 2, 3, 7, 20, 100])
@pytest.mark.parametrize("symbol", [None, "BTCUSDT"])
def test_pages_concatenate_to_the_whole(
    lake: Lake, client: TestClient, order: str, limit: int, symbol: str | None
) -> None:
    chance = random.Random(limit)
    rows = [
        a_trade(number, at=f"2024-08-0{chance.randint(7, 9)}T12:00:0{chance.randint(0, 3)}Z", symbol=name)
        for number in range(1, 16)
        for name in ("BTCUSDT", "ETHUSDT")
    ]
    chance.shuffle(rows)
    for start in range(0, len(rows), 5):
        lake.add(rows[start : start + 5])
    params = {"order": order} | ({"symbol": symbol} if symbol else {})
    [whole] = pages(client, limit=1000, **params)
    found = pages(client, limit=limit, **params)
    assert [row for page in found for row in page["data"]] == whole["data"]
    assert all(len(page["data"]) == limit for page in found[:-1])
    assert len(whole["data"]) == (15 if symbol else 30)


def test_pages_show_one_snapshot_while_trades_arrive(lake: Lake, client: TestClient) -> None:
    lake.add(trades_from(1, 10))
    first = client.get("/v1/trades?limit=4&order=asc").json()
    lake.add(trades_from(11, 10, at="2024-08-08T23:55:10Z"))
    rest = client.get("/v1/trades", params={"limit": 100, "order": "asc", "cursor": first["pagination"]["next_cursor"]})
    assert ids(rest.json()) == [str(number) for number in range(5, 11)]
    assert rest.json()["meta"]["snapshot_id"] == first["meta"]["snapshot_id"]
    assert ids(client.get("/v1/trades?limit=1").json()) == ["20"]


def test_cursor_of_a_replaced_day_still_shows_the_day_as_it_was(lake: Lake, client: TestClient) -> None:
    lake.add(trades_from(1, 10))
    first = client.get("/v1/trades?limit=4").json()
    lake.replace("2024-08-08T00:00:00+00:00", "2024-08-09T00:00:00+00:00", trades_from(500, 3))
    rest = client.get("/v1/trades", params={"limit": 4, "cursor": first["pagination"]["next_cursor"]}).json()
    assert ids(rest) == ["6", "5", "4", "3"]


def test_expired_cursor_is_410_with_the_earliest_state(lake: Lake, client: TestClient) -> None:
    old = lake.add(trades_from(1, 10))
    first = client.get("/v1/trades?limit=4").json()
    new = lake.add(trades_from(11, 1, at="2024-08-08T23:56:00Z"))
    lake.expire(old)
    answer = client.get("/v1/trades", params={"limit": 4, "cursor": first["pagination"]["next_cursor"]})
    assert answer.status_code == 410
    assert answer.json()["error"]["code"] == "no_longer_kept"
    assert answer.json()["error"]["details"]["earliest"]["snapshot_id"] == str(new)


@pytest.mark.parametrize("change", [{"symbol": "BTCUSDT"}, {"order": "asc"}, {"end_time": "2025-01-01"}])
def test_cursor_of_another_query_is_400(lake: Lake, client: TestClient, change: dict[str, str]) -> None:
    lake.add(trades_from(1, 10))
    cursor = client.get("/v1/trades?limit=4").json()["pagination"]["next_cursor"]
    answer = client.get("/v1/trades", params={"limit": 4, "cursor": cursor} | change)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_cursor"


def test_tampered_cursor_is_400(lake: Lake, client: TestClient) -> None:
    lake.add(trades_from(1, 10))
    cursor = client.get("/v1/trades?limit=4").json()["pagination"]["next_cursor"]
    for place in range(0, len(cursor), 7):
        letter = "A" if cursor[place] != "A" else "B"
        changed = cursor[:place] + letter + cursor[place + 1 :]
        assert client.get("/v1/trades", params={"limit": 4, "cursor": changed}).status_code == 400


def test_contiguous_ids_are_complete(lake: Lake, client: TestClient) -> None:
    lake.add(trades_from(1, 10) + trades_from(900, 4, symbol="ETHUSDT"))
    completeness = client.get("/v1/trades").json()["meta"]["completeness"]
    expected = {"status": "complete", "missing_trades": 0, "gaps": [], "data_until": "2024-08-08T23:55:09.000000Z"}
    assert completeness == expected


def test_hole_is_named_with_the_trades_around_it(lake: Lake, client: TestClient) -> None:
    lake.add([trade for trade in trades_from(1, 10) if trade["source_sequence"] not in {4, 5, 8}])
    completeness = client.get("/v1/trades").json()["meta"]["completeness"]
    assert completeness["status"] == "partial"
    assert completeness["missing_trades"] == 3
    market = {"exchange": "binance", "symbol": "BTCUSDT", "state": "open"}
    assert completeness["gaps"] == [
        market | {"start": "2024-08-08T23:55:02.000000Z", "end": "2024-08-08T23:55:05.000000Z", "missing": 2},
        market | {"start": "2024-08-08T23:55:06.000000Z", "end": "2024-08-08T23:55:08.000000Z", "missing": 1},
    ]


def test_id_that_stands_elsewhere_in_gold_is_not_missing(lake: Lake, client: TestClient) -> None:
    rows = trades_from(1, 10)
    rows[4]["timestamp"] = rows[9]["timestamp"]  # id 5 is out of order by the venue's clock
    lake.add(rows)
    answer = client.get("/v1/trades?start_time=2024-08-08T23:55:02Z&end_time=2024-08-08T23:55:08Z").json()
    assert ids(answer) == ["8", "7", "6", "4", "3"]
    assert answer["meta"]["completeness"]["status"] == "complete"


def test_hole_between_two_pages_is_reported_once(lake: Lake, client: TestClient) -> None:
    lake.add([trade for trade in trades_from(1, 9) if trade["source_sequence"] != 5])
    found = pages(client, limit=4, symbol="BTCUSDT")
    assert [ids(page) for page in found] == [["9", "8", "7", "6"], ["4", "3", "2", "1"]]
    assert [page["meta"]["completeness"]["missing_trades"] for page in found] == [1, 0]


def test_only_twenty_gaps_are_listed_but_all_are_counted(lake: Lake, client: TestClient) -> None:
    lake.add([trade for trade in trades_from(0, 101) if trade["source_sequence"] % 2 == 0])
    completeness = client.get("/v1/trades").json()["meta"]["completeness"]
    assert completeness["missing_trades"] == 50
    assert len(completeness["gaps"]) == 20


def test_data_until_follows_the_filter_not_the_range(lake: Lake, client: TestClient) -> None:
    lake.add(trades_from(1, 3) + trades_from(1, 1, at="2024-08-10T00:00:00Z", symbol="ETHUSDT"))
    answer = client.get("/v1/trades?symbol=BTCUSDT&end_time=2024-08-08T23:55:01Z").json()
    assert answer["meta"]["completeness"]["data_until"] == "2024-08-08T23:55:02.000000Z"
    assert client.get("/v1/trades").json()["meta"]["completeness"]["data_until"] == "2024-08-10T00:00:00.000000Z"


def test_ids_that_begin_again_make_no_gap_and_nothing_over_them_is_complete(lake: Lake, client: TestClient) -> None:
    lake.add([*trades_from(1000, 5), *trades_from(3, 5, at="2024-08-09T12:00:00Z")])
    lake.add_epoch("2024-08-09T12:00:00Z")

    answer = client.get("/v1/trades").json()["meta"]["completeness"]
    assert (answer["status"], answer["missing_trades"], answer["gaps"]) == ("unknown", 0, [])
    lake.add([a_trade(9, at="2024-08-09T12:00:09Z")])
    lake.add_candles([a_candle("2024-08-08T23:55:00Z", complete=False), a_candle("2024-08-09T12:00:00Z", missing=1)])
    answer = client.get("/v1/trades").json()["meta"]["completeness"]
    [gap] = answer["gaps"]
    assert (answer["missing_trades"], gap["start"], gap["end"]) == (
        1,
        "2024-08-09T12:00:04.000000Z",
        "2024-08-09T12:00:09.000000Z",
    )
    answer = client.get("/v1/ohlcv/1m", params={"symbol": "BTCUSDT"}).json()["meta"]["completeness"]
    assert (answer["status"], answer["missing_trades"], answer["gaps"]) == ("partial", 1, [gap])


def test_an_odd_id_makes_no_gap_that_ends_before_it_begins(lake: Lake, client: TestClient) -> None:
    lake.add([*trades_from(1000, 5), a_trade(3, at="2024-08-09T12:00:00Z")])

    assert client.get("/v1/trades").json()["meta"]["completeness"]["gaps"] == []
