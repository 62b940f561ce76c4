import time

import pytest
from pyiceberg.expressions import EqualTo
from pyiceberg.table.snapshots import Operation
from starlette.testclient import TestClient

from tests.api.lakes import Lake, a_candle, a_trade, trades_from


def ids(client: TestClient, as_of: str) -> list[str]:
    answer = client.get("/v1/trades", params={"as_of": as_of, "order": "asc"}).json()
    assert answer["success"], answer
    return [row["trade_id"] for row in answer["data"]]


def committed_at(client: TestClient) -> str:
    moment: str = client.get("/v1/trades?limit=1").json()["meta"]["as_of"]
    time.sleep(0.01)  # snapshots differ by the millisecond
    return moment


def test_snapshot_id_tag_and_time_show_the_table_as_it_was(lake: Lake, client: TestClient) -> None:
    first = lake.add([a_trade(1)])
    moment = committed_at(client)
    lake.table().manage_snapshots().create_tag(first, "first-day").commit()
    lake.add([a_trade(2)])
    for as_of in (str(first), "first-day", moment):
        assert ids(client, as_of) == ["1"]
    assert ids(client, "2100-01-01") == ["1", "2"]


def test_as_of_reaches_candles_and_symbols(lake: Lake, client: TestClient) -> None:
    lake.add([a_trade(1)])
    first = lake.add_candles([a_candle()])
    lake.add_candles([a_candle("2024-08-08T23:56:00Z")])
    moment = committed_at(client)
    lake.add([a_trade(1, symbol="ETHUSDT")])
    assert len(client.get(f"/v1/ohlcv/1m?symbol=BTCUSDT&as_of={first}").json()["data"]) == 1
    assert [row["symbol"] for row in client.get(f"/v1/symbols?as_of={moment}").json()["data"]] == ["BTCUSDT"]
    assert len(client.get("/v1/symbols").json()["data"]) == 2


@pytest.mark.parametrize("as_of", ["12345", "no-such-tag", "main"])
def test_unknown_snapshot_or_tag_is_404(lake: Lake, client: TestClient, as_of: str) -> None:
    lake.add([a_trade(1)])
    answer = client.get("/v1/trades", params={"as_of": as_of})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_snapshot")


def test_time_before_the_first_kept_is_410_with_the_earliest(lake: Lake, client: TestClient) -> None:
    first = lake.add([a_trade(1)])
    moment = committed_at(client)
    lake.add([a_trade(2)])
    earliest = {"snapshot_id": str(first), "as_of": moment}
    answer = client.get("/v1/trades?as_of=2024-01-01")
    assert answer.status_code == 410
    assert answer.json()["error"]["details"] == {"earliest": earliest}


def test_time_within_an_overwrite_never_shows_its_first_half(lake: Lake, client: TestClient) -> None:
    lake.add(trades_from(1, 3))
    committed_at(client)
    lake.replace("2024-08-08T00:00:00+00:00", "2024-08-09T00:00:00+00:00", trades_from(1, 4))
    snapshots = lake.table().snapshots()
    [half] = [each for each in snapshots if each.summary and each.summary.operation == Operation.DELETE]
    assert client.get("/v1/trades", params={"as_of": str(half.snapshot_id)}).status_code == 404
    from_half = f"{half.timestamp_ms / 1000:.3f}"
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(half.timestamp_ms // 1000)) + from_half[-4:] + "Z"
    assert len(ids(client, moment)) in {3, 4}  # 4 when both halves were written within one millisecond


def test_pages_of_an_earlier_snapshot_stay_with_it(lake: Lake, client: TestClient) -> None:
    first = lake.add(trades_from(1, 5))
    lake.add(trades_from(6, 5, at="2024-08-08T23:55:05Z"))
    params = {"as_of": str(first), "limit": 3}
    page = client.get("/v1/trades", params=params).json()
    more = client.get("/v1/trades", params=params | {"cursor": page["pagination"]["next_cursor"]}).json()
    assert [row["trade_id"] for row in page["data"] + more["data"]] == ["5", "4", "3", "2", "1"]


def test_deletion_of_a_commit_of_its_own_is_a_state_that_can_be_asked_for(lake: Lake, client: TestClient) -> None:
    lake.add(trades_from(1, 3))
    table = lake.table()
    table.delete(EqualTo("trade_id", "3"), snapshot_properties={"k2.commit": "1"})
    deleted = table.current_snapshot()
    lake.add(trades_from(4, 1, at="2024-08-08T23:56:00Z"))
    assert deleted is not None
    assert ids(client, str(deleted.snapshot_id)) == ["1", "2"]
