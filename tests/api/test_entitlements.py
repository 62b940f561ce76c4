"""What a key allows: as a rule over plain values, and held to by every route whatever is tried."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from k2_api.access.entitlements import allowed_exchanges, allowed_rows
from k2_api.api_errors import NotEntitled
from k2_core.lake.tables import GOLD_OHLCV_1M
from k2_core.venues import VENUES
from tests.api.keys import a_caller, a_key
from tests.api.lakes import Lake, a_candle, a_trade

ROUTES = ("/v1/trades", "/v1/ohlcv/1m?symbol=BTCUSDT", "/v1/symbols")
SOME = st.lists(st.sampled_from([*VENUES, "closed"]), unique=True).map(tuple)
CLASSES = st.lists(st.sampled_from(["crypto", "equities"]), unique=True).map(tuple)


@pytest.fixture
def two(lake: Lake) -> Lake:
    """A lake with trades and candles of two exchanges."""
    lake.add([a_trade(1), a_trade(1, "2024-08-09T10:00:00Z", exchange="kraken")])
    lake.add([a_candle(), a_candle(exchange="kraken")], GOLD_OHLCV_1M)
    return lake


@pytest.fixture
def of_binance(two: Lake, client: TestClient) -> TestClient:
    client.headers["X-API-Key"] = a_key(two.settings, exchanges=("binance",))[0]
    return client


def more(path: str, query: str) -> str:
    return f"{path}{'&' if '?' in path else '?'}{query}"


@pytest.mark.parametrize(
    ("allowed", "asked", "narrowed"),
    [
        ({}, (), ()),
        ({}, ("kraken", "nowhere"), ("kraken", "nowhere")),
        ({"exchanges": ("binance", "kraken")}, (), ("binance", "kraken")),
        ({"exchanges": ("binance", "kraken")}, ("kraken", "kraken"), ("kraken",)),
        ({"asset_classes": ("crypto",)}, (), tuple(VENUES)),
        ({"exchanges": ("kraken",), "asset_classes": ("crypto", "equities")}, (), ("kraken",)),
        ({"exchanges": ("closed",)}, (), ("closed",)),
    ],
)
def test_a_question_is_narrowed_to_what_the_key_allows(
    allowed: dict[str, Any], asked: tuple[str, ...], narrowed: tuple[str, ...]
) -> None:
    assert allowed_exchanges(a_caller(**allowed), asked) == narrowed


@pytest.mark.parametrize(
    ("allowed", "asked"),
    [
        ({"exchanges": ("binance",)}, ("kraken",)),
        ({"exchanges": ("binance",)}, ("binance", "kraken")),
        ({"exchanges": ("binance",)}, ("BINANCE",)),
        ({"exchanges": ("binance",)}, ("binance,kraken",)),
        ({"exchanges": ("binance",)}, ("",)),
        ({"asset_classes": ("equities",)}, ("binance",)),
        ({"asset_classes": ("crypto",)}, ("closed",)),
        ({"asset_classes": ("equities",)}, ()),
        ({"exchanges": ("binance",), "asset_classes": ("equities",)}, ()),
    ],
)
def test_what_the_key_does_not_allow_is_refused(allowed: dict[str, Any], asked: tuple[str, ...]) -> None:
    with pytest.raises(NotEntitled):
        allowed_exchanges(a_caller(**allowed), asked)


@given(SOME, CLASSES, SOME)
def test_no_question_ever_gets_more_than_the_key_allows(
    exchanges: tuple[str, ...], classes: tuple[str, ...], asked: tuple[str, ...]
) -> None:
    caller = a_caller(exchanges=exchanges, asset_classes=classes)
    try:
        narrowed = allowed_exchanges(caller, asked)
    except NotEntitled:
        return
    if exchanges or classes or asked:
        assert narrowed  # none would mean all
    assert not exchanges or set(narrowed) <= set(exchanges)
    assert not asked or set(narrowed) == set(asked)
    if classes:
        assert {VENUES[each].ASSET_CLASS for each in narrowed} <= set(classes)


def test_rows_are_as_many_as_asked_for_or_as_the_key_allows() -> None:
    assert [allowed_rows(a_caller(row_limit=limit), 100) for limit in (None, 50, 1000)] == [100, 50, 100]


def test_without_an_exchange_answers_have_only_what_is_allowed(of_binance: TestClient) -> None:
    for path in ROUTES:
        body = of_binance.get(path).json()
        assert {row["exchange"] for row in body["data"]} == {"binance"}
        # The newest trade of all is Kraken's, of the day after.
        assert body["meta"]["completeness"]["data_until"] == "2024-08-08T23:55:00.000000Z"


REFUSED = (
    "exchange=kraken",
    "exchange=KRAKEN",
    "exchange=%20kraken",
    "exchange=kraken%09",
    "exchange=%6Braken",
    "exchange=binance,kraken",
    "exchange=kraken%2Cbinance",
    "exchange=binance,%20KRAKEN",
)
INVALID = (
    *("exchange=binance&exchange=kraken", "exchange=kraken&exchange=binance", "exchange=binance&exchange=binance"),
    *("exchange=binance,,kraken", "exchange=,", "exchange=", "exchange=*", "exchange=%25"),
    *("exchange=%EF%BD%8Braken", "exchange=binance%00", "Exchange=kraken", "exchange[]=kraken", "exchanges=kraken"),
)


@pytest.mark.parametrize("path", ROUTES)
def test_no_spelling_of_another_exchange_gets_through(of_binance: TestClient, path: str) -> None:
    for query in (*REFUSED, "exchange=nowhere"):
        # A caller who claims to have the answer is refused as well: there is no 304 for it.
        for headers in ({}, {"If-None-Match": "*"}):
            answer = of_binance.get(more(path, query), headers=headers)
            assert (query, answer.status_code) == (query, 403)
            assert answer.json()["error"]["code"] == "not_entitled"
            assert answer.json()["error"]["message"].startswith("your key does not allow ")
    for query in INVALID:
        answer = of_binance.get(more(path, query))
        assert (query, answer.status_code) == (query, 422)
        assert answer.json()["error"]["code"] == "invalid_parameters"
    for query in ("exchange=binance", "exchange=BINANCE", "exchange=%20binance"):
        assert {row["exchange"] for row in of_binance.get(more(path, query)).json()["data"]} == {"binance"}


def test_a_question_that_is_sent_as_a_body_is_held_to_the_key_as_well(two: Lake, of_binance: TestClient) -> None:
    bodies: dict[str, dict[str, Any]] = {
        "/v1/trades/query": {},
        "/v1/replay": {"start": "2024-08-01", "end": "2024-09-01"},
        f"/v1/snapshots/{of_binance.get('/v1/trades').json()['meta']['snapshot_id']}/query": {},
    }
    for path, body in bodies.items():
        assert {row["exchange"] for row in of_binance.post(path, json=body).json()["data"]} == {"binance"}
        asked = {"exchanges": ["binance", "KRAKEN"]} if path == "/v1/trades/query" else {"exchange": " kraken"}
        assert (path, of_binance.post(path, json=body | asked).status_code) == (path, 403)
    streamed = of_binance.post("/v1/trades/query", json={"limit": 1_000_000, "format": "csv", "fields": ["exchange"]})
    assert streamed.text.split() == ["exchange", '"binance"']


def test_several_allowed_exchanges_answer_together(two: Lake, client: TestClient) -> None:
    both, _ = a_key(two.settings, exchanges=("binance", "kraken"))
    for path in ROUTES:
        found = client.get(path, headers={"X-API-Key": both}).json()["data"]
        assert {row["exchange"] for row in found} == {"binance", "kraken"}
        assert client.get(more(path, "exchange=coinbase"), headers={"X-API-Key": both}).status_code == 403


def test_an_answer_to_one_key_is_not_unchanged_for_another(two: Lake, client: TestClient) -> None:
    narrow, _ = a_key(two.settings, exchanges=("kraken",))
    for path in ROUTES:
        of_all = client.get(path).headers["ETag"]
        answer = client.get(path, headers={"X-API-Key": narrow, "If-None-Match": of_all})
        assert answer.status_code == 200
        assert {row["exchange"] for row in answer.json()["data"]} == {"kraken"}


def test_a_cursor_of_one_key_is_refused_with_another(two: Lake, client: TestClient) -> None:
    two.add([a_trade(2, "2024-08-08T23:56:00Z")])
    cursor = client.get("/v1/trades?limit=1").json()["pagination"]["next_cursor"]
    narrow, _ = a_key(two.settings, exchanges=("binance",))
    answer = client.get(f"/v1/trades?limit=1&cursor={cursor}", headers={"X-API-Key": narrow})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_cursor")


def test_pages_are_as_long_as_the_key_allows_and_lead_to_the_end(two: Lake, client: TestClient) -> None:
    two.add([a_trade(each, f"2024-08-08T23:56:0{each}Z") for each in range(2, 6)])
    client.headers["X-API-Key"] = a_key(two.settings, exchanges=("binance",), row_limit=2)[0]
    ids, cursor = [], ""
    while cursor is not None:
        body = client.get(f"/v1/trades?limit=100{cursor and f'&cursor={cursor}'}").json()
        assert body["pagination"]["limit"] == 2
        ids += [row["trade_id"] for row in body["data"]]
        cursor = body["pagination"]["next_cursor"]
    assert ids == ["5", "4", "3", "2", "1"]


def test_symbols_beyond_the_row_limit_are_refused(two: Lake, client: TestClient) -> None:
    client.headers["X-API-Key"] = a_key(two.settings, row_limit=1)[0]
    answer = client.get("/v1/symbols")
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "not_entitled")
    assert len(client.get("/v1/symbols?exchange=kraken").json()["data"]) == 1


def test_a_key_of_an_asset_class_that_no_exchange_has_sees_nothing(two: Lake, client: TestClient) -> None:
    client.headers["X-API-Key"] = a_key(two.settings, asset_classes=("equities",))[0]
    for path in ROUTES:
        answer = client.get(path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "not_entitled")
