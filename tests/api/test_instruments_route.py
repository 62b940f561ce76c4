from decimal import Decimal
from typing import Any

import pytest
from starlette.testclient import TestClient

from k2_api.http.response_models import Envelope, Instrument
from k2_api.timestamps import parse_moment
from k2_core.lake.tables import REFERENCE_INSTRUMENTS
from tests.api.lakes import Lake, Row


def a_version(
    symbol: str = "BTCUSDT", exchange: str = "binance", since: str = "2024-08-01T00:00:00Z", **other: Any
) -> Row:
    until = other.pop("until", None)
    return {
        "exchange": exchange,
        "venue_symbol": symbol,
        "symbol": symbol,
        "base": symbol[:3],
        "quote": symbol[3:],
        "tick_size": Decimal("0.010000000000"),
        "lot_size": Decimal("0.00001000"),
        "status": "trading",
        "venue_status": "TRADING",
        "tier": 1,
        "asset_class": "crypto",
        "valid_from": parse_moment(since),
        "valid_to": None if until is None else parse_moment(until),
        "fetched_at": parse_moment(since),
        "source": "https://api.binance.com/api/v3/exchangeInfo",
    } | other


def get(client: TestClient, **params: Any) -> Any:
    answer = client.get("/v1/instruments", params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


def shown(body: Any) -> list[tuple[str, str, str]]:
    return [(row["exchange"], row["venue_symbol"], row["valid_from"][:10]) for row in body["data"]]


def test_a_version_has_every_field_and_exact_sizes(lake: Lake, client: TestClient) -> None:
    snapshot = lake.add([a_version(tick_size=None, until="2024-08-02T00:00:00Z")], REFERENCE_INSTRUMENTS)
    body = get(client)
    assert body["data"] == [
        {
            "exchange": "binance",
            "venue_symbol": "BTCUSDT",
            "symbol": "BTCUSDT",
            "base": "BTC",
            "quote": "USDT",
            "tick_size": None,
            "lot_size": "0.00001",
            "status": "trading",
            "venue_status": "TRADING",
            "tier": 1,
            "asset_class": "crypto",
            "valid_from": "2024-08-01T00:00:00.000000Z",
            "valid_to": "2024-08-02T00:00:00.000000Z",
            "fetched_at": "2024-08-01T00:00:00.000000Z",
            "source": "https://api.binance.com/api/v3/exchangeInfo",
        }
    ]
    meta = body["meta"]
    assert (meta["table"], meta["snapshot_id"]) == ("reference_instruments", str(snapshot))
    assert meta["completeness"] == {"status": "unknown", "missing_trades": 0, "gaps": [], "data_until": None}
    assert Envelope[Instrument].model_validate(body, strict=True, extra="forbid").model_dump() == body


def test_versions_are_in_order_and_chosen_by_exchange_and_symbol(lake: Lake, client: TestClient) -> None:
    lake.add(
        [
            a_version("BTCUSD", "kraken", venue_symbol="BTC/USD"),
            a_version(since="2024-08-03T00:00:00Z"),
            a_version("ETHUSDT"),
        ],
        REFERENCE_INSTRUMENTS,
    )
    lake.add([a_version(until="2024-08-03T00:00:00Z")], REFERENCE_INSTRUMENTS)

    btc = [("binance", "BTCUSDT", "2024-08-01"), ("binance", "BTCUSDT", "2024-08-03")]
    eth, kraken = ("binance", "ETHUSDT", "2024-08-01"), ("kraken", "BTC/USD", "2024-08-01")
    assert shown(get(client)) == [*btc, eth, kraken]
    assert shown(get(client, exchange="Binance")) == [*btc, eth]
    assert shown(get(client, symbol="btcusd")) == [kraken]
    assert shown(get(client, symbol="btcusdt", exchange="binance")) == btc
    assert shown(get(client, exchange="nowhere")) == []


@pytest.mark.parametrize("limit", [1, 2, 3, 6, 7])
def test_pages_concatenate_to_the_whole_and_stay_with_their_snapshot(
    lake: Lake, client: TestClient, limit: int
) -> None:
    # Two venue symbols of one symbol, and two versions of each: every part of the key is needed.
    rows = [
        a_version(exchange=exchange, venue_symbol=spelled, since=since)
        for exchange in ("binance", "kraken")
        for spelled, since in (("BTCUSDT", "2024-08-01"), ("BTCUSDT", "2024-08-02"), ("XBT/USDT", "2024-08-01"))
    ]
    for row in rows:
        lake.add([row], REFERENCE_INSTRUMENTS)
    whole, pages, params = shown(get(client)), [], {"limit": limit}
    while True:
        body = get(client, **params)
        pages.append(shown(body))
        if not body["pagination"]["has_more"]:
            break
        params["cursor"] = body["pagination"]["next_cursor"]
        lake.add([a_version("AAAUSDT", exchange="a")], REFERENCE_INSTRUMENTS)  # shown by none of the later pages
    assert [row for page in pages for row in page] == whole
    assert len(pages) == -(-len(rows) // limit)


def test_as_of_shows_the_register_as_it_was(lake: Lake, client: TestClient) -> None:
    first = lake.add([a_version()], REFERENCE_INSTRUMENTS)
    lake.table(REFERENCE_INSTRUMENTS).manage_snapshots().create_tag(first, "paper").commit()
    lake.add([a_version("ETHUSDT")], REFERENCE_INSTRUMENTS)
    assert shown(get(client, as_of="paper")) == shown(get(client, as_of=str(first)))
    assert len(get(client)["data"]) == 2
    assert client.get("/v1/instruments?as_of=other").status_code == 404


def test_answer_is_304_until_the_register_changes(lake: Lake, client: TestClient) -> None:
    lake.add([a_version()], REFERENCE_INSTRUMENTS)
    first = client.get("/v1/instruments")
    assert first.headers["Cache-Control"] == "private, max-age=300"
    known = {"If-None-Match": first.headers["ETag"]}
    assert client.get("/v1/instruments", headers=known).status_code == 304
    lake.add([a_version("ETHUSDT")], REFERENCE_INSTRUMENTS)
    assert client.get("/v1/instruments", headers=known).status_code == 200


def test_a_cursor_belongs_to_its_question(lake: Lake, client: TestClient) -> None:
    lake.add([a_version(), a_version("ETHUSDT")], REFERENCE_INSTRUMENTS)
    cursor = get(client, limit=1)["pagination"]["next_cursor"]
    refused = client.get("/v1/instruments", params={"limit": 1, "exchange": "binance", "cursor": cursor})
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_cursor")


def test_an_empty_register_answers_without_rows(client: TestClient) -> None:
    body = get(client)
    assert (body["data"], body["meta"]["snapshot_id"], body["pagination"]["has_more"]) == ([], None, False)


@pytest.mark.parametrize("query", ["limit=0", "limit=10001", "venue=binance", "symbol=a&symbol=b"])
def test_bad_parameters_are_422(client: TestClient, query: str) -> None:
    assert client.get(f"/v1/instruments?{query}").status_code == 422
