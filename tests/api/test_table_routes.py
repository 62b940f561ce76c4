"""GET /v1/stats and /v1/snapshots: what tables say of themselves."""

from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from k2_api.app import create_app
from k2_api.http.response_models import Envelope, TableSnapshot, TableStats
from k2_core.lake.tables import GOLD_OHLCV_1M, SERVED
from k2_core.settings import Settings
from tests.api.lakes import KEY, Lake, a_candle, a_trade, trades_from


def stats(client: TestClient) -> dict[str, Any]:
    return {row.pop("table"): row for row in client.get("/v1/stats").json()["data"]}


def snapshots(client: TestClient, **params: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get("/v1/snapshots", params=params).json()["data"]
    return found


def test_stats_count_what_the_newest_state_of_each_table_holds(lake: Lake, client: TestClient) -> None:
    lake.add(trades_from(1, 5))
    lake.add(trades_from(6, 3, at="2024-08-09T00:00:00Z"))
    lake.add_candles([a_candle(), a_candle("2024-08-08T23:57:00Z")])

    found = stats(client)

    assert list(found) == [spec.name for spec in SERVED]
    trades, candles, empty = (found[name] for name in ("gold_crypto_trades", "gold_ohlcv_1m", "gold_ohlcv_1d"))
    files = lake.table().inspect.files().to_pylist()
    assert (trades["rows"], trades["files"], trades["snapshots"]) == (8, len(files), 2)
    assert trades["bytes"] == sum(Path(each["file_path"].removeprefix("file://")).stat().st_size for each in files)
    assert trades["newest_at"] == "2024-08-09T00:00:02.000000Z"
    assert (candles["rows"], candles["newest_at"]) == (2, "2024-08-08T23:57:00.000000Z")
    assert empty == {"rows": 0, "bytes": 0, "files": 0, "newest_at": None, "snapshots": 0, "committed_at": None}


def test_stats_follow_a_replacement_and_count_states_not_steps(lake: Lake, client: TestClient) -> None:
    lake.add(trades_from(1, 5))
    before = stats(client)["gold_crypto_trades"]
    lake.replace("2024-08-08T00:00:00+00:00", "2024-08-09T00:00:00+00:00", trades_from(1, 3))
    after = stats(client)["gold_crypto_trades"]
    assert (before["rows"], after["rows"], after["files"], after["snapshots"]) == (5, 3, 1, 2)
    assert len(lake.table().snapshots()) == 3
    assert after["committed_at"] > before["committed_at"]


def test_snapshots_are_the_whole_commits_newest_first(lake: Lake, client: TestClient) -> None:
    first = lake.add(trades_from(1, 5))
    second = lake.replace("2024-08-08T00:00:00+00:00", "2024-08-09T00:00:00+00:00", trades_from(1, 3))
    third = lake.add([a_trade(9, "2024-08-10T00:00:00Z")])
    for name in ("paper", "auto-day-2024-08-08"):
        lake.table().manage_snapshots().create_tag(second, name).commit()

    found = snapshots(client)

    facts = [(row["snapshot_id"], row["tags"], row["rows"], row["rows_added"], row["files_added"]) for row in found]
    assert facts == [
        (str(third), [], 4, 1, 1),
        (str(second), ["auto-day-2024-08-08", "paper"], 3, 3, 1),
        (str(first), [], 5, 5, 1),
    ]
    assert [row["committed_at"] for row in found] == sorted((row["committed_at"] for row in found), reverse=True)
    assert found[0]["operation"] == "append"
    for row in found:  # as_of takes what is listed
        for as_of in (row["snapshot_id"], *row["tags"]):
            answer = client.get("/v1/trades", params={"as_of": as_of}).json()
            assert len(answer["data"]) == row["rows"]
            assert answer["meta"]["as_of"] == row["committed_at"]


def test_snapshots_of_another_table_and_no_more_than_the_limit(lake: Lake, client: TestClient) -> None:
    ids = [lake.add_candles([a_candle(f"2024-08-08T23:{minute}:00Z")]) for minute in range(40, 52)]
    assert [row["snapshot_id"] for row in snapshots(client, table="gold_ohlcv_1m")] == [
        str(each) for each in ids[:1:-1]
    ]
    assert [row["rows"] for row in snapshots(client, table="gold_ohlcv_1m", limit=2)] == [12, 11]
    assert snapshots(client) == []
    meta = client.get("/v1/snapshots?table=gold_ohlcv_1m").json()["meta"]
    assert (meta["table"], meta["snapshot_id"]) == ("gold_ohlcv_1m", str(ids[-1]))


@pytest.mark.parametrize(("path", "model"), [("/v1/stats", TableStats), ("/v1/snapshots", TableSnapshot)])
def test_answer_is_what_openapi_says(lake: Lake, client: TestClient, path: str, model: Any) -> None:
    lake.add([a_trade()])
    body = client.get(path).json()
    described = Envelope[model].model_validate(body, strict=True, extra="forbid")
    assert len(described.data) > 0
    assert described.model_dump() == body


@pytest.mark.parametrize(("path", "seconds"), [("/v1/stats", 30), ("/v1/snapshots", 10)])
def test_answer_is_304_until_rows_tags_or_kept_snapshots_change(
    lake: Lake, client: TestClient, path: str, seconds: int
) -> None:
    first = lake.add([a_trade(1)])
    answer = client.get(path)
    assert answer.headers["Cache-Control"] == f"private, max-age={seconds}"
    changes = [
        lambda: lake.add([a_trade(2)]),
        lambda: lake.table().manage_snapshots().create_tag(first, "paper").commit(),
        lambda: lake.table().manage_snapshots().remove_tag("paper").commit(),
        lambda: lake.expire(first),
    ]
    bodies = [answer.json()["data"]]
    for change in changes:
        known = {"If-None-Match": answer.headers["ETag"]}
        again = client.get(path, headers=known)
        assert (again.status_code, again.content) == (304, b"")
        change()
        answer = client.get(path, headers=known)
        assert answer.status_code == 200
        bodies.append(answer.json()["data"])
    assert len(bodies[-1]) >= 1
    assert bodies[0] != bodies[1]
    assert bodies[-1] != bodies[-2]


@pytest.mark.parametrize(
    "path",
    [
        *("/v1/snapshots?table=no_table", "/v1/snapshots?table=silver_binance_trades", "/v1/snapshots?limit=0"),
        *("/v1/snapshots?limit=101", "/v1/snapshots?as_of=x", "/v1/stats?table=gold_ohlcv_1m"),
    ],
)
def test_bad_parameters_are_422(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid_parameters")


@pytest.mark.parametrize("path", ["/v1/instruments", "/v1/stats", "/v1/snapshots"])
@pytest.mark.parametrize("headers", [{}, {"X-API-Key": "x"}])
def test_the_key_is_needed(client: TestClient, path: str, headers: dict[str, str]) -> None:
    del client.headers["X-API-Key"]
    assert client.get(path, headers=headers).status_code == (403 if headers else 401)


def test_routes_answer_before_the_tables_are_made(tmp_path: Path) -> None:
    settings = Settings.model_validate({"home": tmp_path / "home", "api": {"key": KEY}})
    with TestClient(create_app(settings), headers={"X-API-Key": KEY}) as client:
        for path in ("/v1/instruments", "/v1/stats", "/v1/snapshots", f"/v1/snapshots?table={GOLD_OHLCV_1M.name}"):
            answer = client.get(path).json()
            assert (answer["success"], answer["data"], answer["meta"]["snapshot_id"]) == (True, [], None)


def test_files_that_are_gone_are_503_for_stats_alone(lake: Lake, client: TestClient) -> None:
    lake.add([a_trade()])
    snapshot = lake.table().current_snapshot()
    assert snapshot is not None
    Path(snapshot.manifest_list.removeprefix("file://")).unlink()
    assert client.get("/v1/stats").json()["error"]["code"] == "lake_unavailable"
    assert len(snapshots(client)) == 1
