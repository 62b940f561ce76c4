from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.types import StringType
from starlette.testclient import TestClient

from k2_api import app
from k2_api.lake import row_source
from k2_api.lake.duckdb_engine import Engine
from k2_core.lake.tables import GOLD_OHLCV_1M
from tests.api.lakes import Lake, a_candle, a_trade, trades_from
from tests.delete_files import strike_out

Serve = Callable[[Lake], TestClient]


@pytest.fixture
def files_read(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[int]]:
    """How many files each query read, by its kind."""
    read: dict[str, list[int]] = {}
    original = Engine.over_files

    def counted(self: Engine, sql: str, paths: Any, params: Any, query_type: str) -> Any:
        read.setdefault(query_type, []).append(len(paths))
        return original(self, sql, paths, params, query_type)

    monkeypatch.setattr(Engine, "over_files", counted)
    return read


def ids(client: TestClient, query: str = "") -> list[str]:
    answer = client.get(f"/v1/trades?{query}")
    assert answer.status_code == 200, answer.text
    return [row["trade_id"] for row in answer.json()["data"]]


def test_newest_rows_are_proven_without_reading_every_file(
    lake: Lake, client: TestClient, files_read: dict[str, list[int]]
) -> None:
    for minute in range(20):
        lake.add(trades_from(minute * 10 + 1, 10, at=f"2024-08-08T10:{minute:02}:00Z"))
    assert ids(client, "limit=5") == ["200", "199", "198", "197", "196"]
    assert ids(client, "limit=5&order=asc") == ["1", "2", "3", "4", "5"]
    assert files_read["trades"] == [1, 1]
    assert sum(files_read["file_groups"]) <= 16


def test_files_without_the_symbol_are_not_read(
    lake: Lake, client: TestClient, files_read: dict[str, list[int]]
) -> None:
    lake.add([a_trade(1)])
    for minute in range(5):
        mixed = [a_trade(minute, at=f"2024-08-09T10:{minute:02}:00Z", symbol=name) for name in ("AAVEUSDT", "XRPUSDT")]
        lake.add(mixed)
    assert ids(client, "symbol=BTCUSDT&limit=1") == ["1"]
    assert files_read["trades"] == [1]


def test_overlapping_files_are_all_read(lake: Lake, client: TestClient) -> None:
    rows = trades_from(1, 30)
    for start in range(3):
        lake.add(rows[start::3])
    assert ids(client, "limit=7") == [str(number) for number in range(30, 23, -1)]


def test_each_file_is_looked_into_once(lake: Lake, client: TestClient, files_read: dict[str, list[int]]) -> None:
    lake.add(trades_from(1, 10))
    for _ in range(3):
        ids(client, "limit=5")
    lake.add(trades_from(11, 10, at="2024-08-08T23:56:00Z"))
    assert ids(client, "limit=1") == ["20"]
    assert sum(files_read["file_groups"]) == 2


def test_new_rows_are_seen_at_once(lake: Lake, client: TestClient) -> None:
    for number in range(1, 6):
        lake.add(trades_from(number, 1, at=f"2024-08-08T23:55:0{number}Z"))
        assert ids(client, "limit=1") == [str(number)]


def test_files_that_maintenance_removed_are_planned_again(
    lake: Lake, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake.add(trades_from(1, 3))
    original = Engine.over_files
    removed: list[str] = []

    def replaced_meanwhile(self: Engine, sql: str, paths: Any, params: Any, query_type: str) -> Any:
        if query_type == "trades" and not removed:
            lake.replace("2024-08-08T00:00:00+00:00", "2024-08-09T00:00:00+00:00", trades_from(7, 2))
            removed.extend(paths)
            for path in paths:
                Path(path.removeprefix("file://")).unlink()
        return original(self, sql, paths, params, query_type)

    monkeypatch.setattr(Engine, "over_files", replaced_meanwhile)
    assert ids(client) == ["8", "7"]
    assert removed


def test_files_that_stay_away_are_503_and_the_log_says_which(
    lake: Lake, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[dict[str, str]] = []
    monkeypatch.setattr(app.log, "warning", lambda _, **facts: logged.append(facts))
    lake.add(trades_from(1, 3))
    for path in lake.table().inspect.files()["file_path"].to_pylist():
        Path(path.removeprefix("file://")).unlink()
    answer = client.get("/v1/trades")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "lake_unavailable")
    assert ".parquet" not in answer.text
    assert ".parquet" in logged[0]["cause"]


@pytest.mark.parametrize("name", ["it's a home", "home [1]", "home *", "höme"])
def test_home_may_have_any_name(tmp_path: Path, client_of: Serve, name: str) -> None:
    decoy = Lake(tmp_path / "home 1")
    decoy.add([a_trade(99)])
    lake = Lake(tmp_path / name)
    lake.add(trades_from(1, 3))
    lake.add_candles([a_candle()])
    client = client_of(lake)
    assert ids(client) == ["3", "2", "1"]
    assert client.get("/v1/trades").json()["meta"]["completeness"]["data_until"] == "2024-08-08T23:55:02.000000Z"
    assert len(client.get("/v1/ohlcv/1m?symbol=BTCUSDT").json()["data"]) == 1
    assert client.get("/v1/symbols").json()["data"][0]["trade_count"] == 3
    for each in (decoy, lake):
        each.catalog.engine.dispose()


def test_changed_schema_is_read_by_column_id(lake: Lake, client: TestClient) -> None:
    lake.add([a_trade(number) for number in (1, 2, 4)])
    with lake.table().update_schema() as update:
        update.add_column("venue_note", StringType())
        update.rename_column("trade_conditions", "conditions")
    with lake.table().update_schema() as update:
        update.rename_column("conditions", "trade_conditions")
    assert ids(client) == ["4", "2", "1"]
    params = "symbol=BTCUSDT&exchange=binance&start_time=2024-08-08&end_time=2024-08-09&limit=2"
    first = client.get(f"/v1/trades?{params}").json()
    assert first["meta"]["completeness"]["missing_trades"] == 1
    assert ids(client, f"{params}&cursor={first['pagination']['next_cursor']}") == ["1"]
    assert client.get("/v1/symbols").json()["data"][0]["trade_count"] == 3


def test_files_of_several_schemas_are_planned_as_those_of_one(
    lake: Lake, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for minute in range(20):
        lake.add(trades_from(minute * 10 + 1, 10, at=f"2024-08-08T10:{minute:02}:00Z"))
    with lake.table().update_schema() as update:
        update.add_column("venue_note", StringType())
    read: list[int] = []
    original = row_source.stream
    monkeypatch.setattr(
        row_source, "stream", lambda table, files, *rest: read.append(len(files)) or original(table, files, *rest)
    )
    assert ids(client, "limit=5") == ["200", "199", "198", "197", "196"]
    assert ids(client, "limit=5&order=asc") == ["1", "2", "3", "4", "5"]
    assert sum(read) <= 16 + 2


def test_rows_that_another_engine_deleted_are_left_out(lake: Lake, client: TestClient) -> None:
    lake.add(trades_from(1, 4))
    before = lake.add(trades_from(11, 3, at="2024-08-09T10:00:00Z"))
    assert ids(client, "limit=5") == ["13", "12", "11", "4", "3"]
    [task] = [each for each in lake.table().scan().plan_files() if each.file.record_count == 3]
    strike_out(lake.table(), task.file, 0, 2)

    assert ids(client, "limit=4") == ["12", "4", "3", "2"]
    assert ids(client, "limit=4&order=asc") == ["1", "2", "3", "4"]
    symbols = client.get("/v1/symbols").json()["data"]
    assert [(each["trade_count"], each["last_trade_at"]) for each in symbols] == [(5, "2024-08-09T10:00:01.000000Z")]
    assert ids(client, f"limit=2&as_of={before}") == ["13", "12"]


def test_queries_cannot_leave_the_warehouse(lake: Lake) -> None:
    outside = lake.home / "secret.csv"
    outside.write_text("a\n1\n")
    engine = Engine(lake.settings)
    with pytest.raises(Exception, match="Permission"):
        engine.over_files(
            "SELECT $files, * FROM read_csv($outside)", ["unused.parquet"], {"outside": str(outside)}, "t"
        )
    engine.close()


def test_many_callers_at_once_get_the_same(lake: Lake, client: TestClient) -> None:
    for start in range(1, 101, 10):
        lake.add(trades_from(start, 10, at=f"2024-08-08T10:{start // 10:02}:00Z"))
    lake.add([a_candle()], GOLD_OHLCV_1M)
    queries = ["limit=20", "limit=100&order=asc", "symbol=BTCUSDT", "start_time=2024-08-08T10:03:00Z&limit=3"] * 10
    alone = [ids(client, query) for query in queries[:4]] * 10
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda query: ids(client, query), queries)) == alone
