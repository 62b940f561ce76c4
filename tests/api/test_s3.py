"""A lake on S3 answers as one of local files does, and a page of it reads the files that it needs, not the table."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from k2_api.app import create_app
from tests.api.lakes import KEY, Lake, Row, a_candle, trades_from
from tests.api.s3_server import S3Server, s3_server

MINUTES = 24


@dataclass
class Pair:
    """Two lakes with the same rows, one of local files and one on S3, and a client of each."""

    lakes: tuple[Lake, Lake]
    clients: tuple[TestClient, TestClient]
    server: S3Server

    def ask(self, path: str) -> Any:
        """Ask both; return S3's answer once it is seen to be that of the local files."""
        local, remote = (_answer(client, path) for client in self.clients)
        assert remote == local
        return remote

    def ask_as_of(self, path: str, commit: int) -> Any:
        """Ask both for a commit's state; their snapshots have the ids of their own."""
        local, remote = (
            _answer(client, f"{path}&as_of={lake.table().snapshots()[commit].snapshot_id}")
            for lake, client in zip(self.lakes, self.clients, strict=True)
        )
        assert remote == local
        return remote


def _answer(client: TestClient, path: str) -> Any:
    answer = client.get(f"/v1/{path}")
    assert answer.status_code == 200, answer.text
    body = answer.json()
    return body["data"], body["meta"].get("completeness")


def _fill(lake: Lake) -> None:
    """Commit a minute of trades of two symbols at a time, with a hole in the ids of one, and its candles."""
    for minute in range(MINUTES):
        at = f"2024-08-08T10:{minute:02}:00Z"
        rows: list[Row] = trades_from(minute * 10 + 1, 10, at=at)
        if minute == 7:
            rows = rows[:4] + rows[6:]
        lake.add(rows + trades_from(minute * 5 + 1, 5, at=at, symbol="ETHUSDT"))
        lake.add_candles([a_candle(at), a_candle(at, "ETHUSDT")])


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    home = tmp_path_factory.mktemp("lakes")
    with s3_server() as server, ExitStack() as stack:
        lakes = Lake(home / "local"), Lake(home / "remote", catalog_settings=server.catalog)
        for lake in lakes:
            stack.callback(lake.catalog.close)
            _fill(lake)
        assert len([key for key in server.objects if key.endswith(".parquet")]) == 2 * MINUTES
        clients = [TestClient(create_app(lake.settings), headers={"X-API-Key": KEY}) for lake in lakes]
        local, remote = (stack.enter_context(client) for client in clients)
        yield Pair(lakes, (local, remote), server)


@pytest.mark.parametrize(
    "path",
    [
        "trades?limit=25",
        "trades?symbol=ETHUSDT&limit=7&order=asc",
        "trades?symbol=BTCUSDT&exchange=binance&start_time=2024-08-08T10:06:00Z&end_time=2024-08-08T10:09:00Z",
        "trades?symbol=NONE",
        "ohlcv/1m?symbol=BTCUSDT",
        "ohlcv/1m?symbol=ETHUSDT&limit=3",
        "symbols",
    ],
)
def test_answers_are_those_of_local_files(pair: Pair, path: str) -> None:
    pair.ask(path)


def test_what_is_missing_is_found(pair: Pair) -> None:
    rows, completeness = pair.ask(
        "trades?symbol=BTCUSDT&exchange=binance&start_time=2024-08-08T10:06:00Z&end_time=2024-08-08T10:09:00Z"
    )
    assert (len(rows), completeness["status"], completeness["missing_trades"]) == (28, "partial", 2)


def test_earlier_states_are_those_of_local_files(pair: Pair) -> None:
    rows, _ = pair.ask_as_of("trades?symbol=BTCUSDT", 9)
    assert rows[0]["trade_id"] == "100"
    pair.ask_as_of("symbols?", 9)


def test_a_page_reads_a_few_files_of_many(pair: Pair, client_of: Callable[[Lake], TestClient]) -> None:
    """It looks into the eight newest files, remembers what they hold, and reads the rows of as many as it needs."""
    client, page = client_of(pair.lakes[1]), "trades?symbol=BTCUSDT&limit=5&end_time=2024-08-08T10:24:00Z"
    pair.server.data_files_read()

    rows, _ = _answer(client, page)
    assert [row["trade_id"] for row in rows] == ["240", "239", "238", "237", "236"]
    assert len(pair.server.data_files_read()) == 8
    _answer(client, page)
    assert len(pair.server.data_files_read()) == 1

    for lake in pair.lakes:
        lake.add(trades_from(241, 10, at="2024-08-08T10:24:00Z"))
    rows, _ = _answer(client, "trades?symbol=BTCUSDT&limit=5")
    assert rows[0]["trade_id"] == "250"
    assert len(pair.server.data_files_read()) == 1


def test_files_that_stay_away_are_503(pair: Pair, tmp_path: Path, client_of: Callable[[Lake], TestClient]) -> None:
    lake = Lake(tmp_path / "home", catalog_settings={**pair.server.catalog, "warehouse": "s3://lake/other"})
    lake.add(trades_from(1, 3))
    for key in [key for key in pair.server.objects if key.startswith("other/") and key.endswith(".parquet")]:
        del pair.server.objects[key]
    answer = client_of(lake).get("/v1/trades")
    lake.catalog.close()
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "lake_unavailable")
