"""The register's asset, check and sensor, against a small server in place of the venues."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from threading import Thread

import dagster as dg
import polars as pl
import pytest

from k2_assets.build_definitions import build_definitions
from k2_assets.lake.commits import arrow_schema
from k2_assets.lake.lake_resource import Lake
from k2_assets.reference.assets import lacking
from k2_assets.reference.checks import contradictions, shared_symbols
from k2_assets.reference.fetch_list import fetch
from k2_core.errors import DownloadError
from k2_core.lake.tables import REFERENCE_INSTRUMENTS
from k2_core.settings import Settings
from tests.assets.lakes import DAY
from tests.assets.registers import binance_list

Answer = tuple[int, dict[str, str], bytes]
BINANCE, KRAKEN, COINBASE = "/api/v3/exchangeInfo", "/0/public/AssetPairs", "/products"
KRAKEN_LIST = json.dumps(
    {
        "error": [],
        "result": {"XXBTZUSD": {"wsname": "XBT/USD", "tick_size": "0.1", "lot_decimals": 8, "status": "online"}},
    }
).encode()
COINBASE_LIST = b'[{"id":"BTC-USD","base_currency":"BTC","quote_currency":"USD","status":"online"}]'


@dataclass
class Venues:
    """All venues' REST interfaces on one port; ``answers`` by path, the last one again and again."""

    answers: dict[str, list[Answer]] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    url: str = ""

    def answer(self, path: str) -> Answer:
        self.asked[path] += 1
        answers = self.answers[path]
        return answers.pop(0) if len(answers) > 1 else answers[0]


@pytest.fixture(name="venues")
def _venues() -> Iterator[Venues]:
    lists = {BINANCE: binance_list("BTC/USDT", "FOO/BAR"), KRAKEN: KRAKEN_LIST, COINBASE: COINBASE_LIST}
    venues = Venues({path: [(200, {}, body)] for path, body in lists.items()})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the base class's name
            status, headers, body = venues.answer(self.path)
            self.send_response(status)
            for name, value in (headers | {"Content-Length": str(len(body))}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    venues.url = f"http://127.0.0.1:{server.server_port}"
    yield venues
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(name="lake")
def _lake(venues: Venues, tmp_path: Path) -> Lake:
    feeds = {venue: {"rest_url": venues.url} for venue in ("binance", "kraken", "coinbase")}
    return Lake(Settings(home=tmp_path, feeds=feeds))  # type: ignore[arg-type]  # pydantic


def run(lake: Lake) -> dg.ExecuteInProcessResult:
    """Run the job as the schedule does, its check included."""
    job = build_definitions(lake.settings, DAY).resolve_job_def("refresh_instruments")
    return job.execute_in_process(raise_on_error=False)


def metadata(result: dg.ExecuteInProcessResult) -> dict[str, object]:
    (event,) = result.asset_materializations_for_node("reference_instruments")
    return {name: value.value for name, value in event.metadata.items()}


def stands(lake: Lake) -> list[tuple[str, str, str, str]]:
    rows = lake.table(REFERENCE_INSTRUMENTS.name).scan().to_arrow().to_pylist()
    names = ("exchange", "venue_symbol", "symbol", "status")
    return sorted(tuple(row[name] for name in names) for row in rows)  # type: ignore[misc]  # four texts


def test_a_run_takes_in_every_venue_says_what_changed_and_is_judged(lake: Lake, venues: Venues) -> None:
    result = run(lake)

    assert result.success
    assert stands(lake) == [
        ("binance", "BTCUSDT", "BTCUSDT", "trading"),
        ("binance", "FOOBAR", "FOOBAR", "trading"),
        ("coinbase", "BTC-USD", "BTCUSD", "trading"),
        ("kraken", "BTC/USD", "BTCUSD", "trading"),
    ]
    reported = metadata(result)
    assert {name: reported[f"binance: {name}"] for name in ("listed", "new", "changed", "delisted")} == {
        "listed": 2, "new": 2, "changed": 0, "delisted": 0,
    }  # fmt: skip
    (check,) = result.get_asset_check_evaluations()
    assert (check.check_name, check.passed) == ("one_version_at_a_time", True)

    venues.answers[BINANCE] = [(200, {}, binance_list("BTC/USDT"))]
    assert metadata(run(lake))["binance: delisted"] == 1
    assert metadata(run(lake))["binance: delisted"] == 0


@pytest.mark.parametrize("body", [b"<html>", b'{"symbols":[]}'])
def test_a_venue_that_fails_keeps_no_other_from_it_and_fails_the_run(lake: Lake, venues: Venues, body: bytes) -> None:
    venues.answers[BINANCE] = [(200, {}, body)]

    result = run(lake)

    assert not result.success
    assert {row[0] for row in stands(lake)} == {"coinbase", "kraken"}
    assert lacking(lake) == ["binance"]
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    assert "not refreshed: binance" in str(failure.step_failure_data.user_failure_data)


def test_too_many_requests_are_asked_again_when_the_venue_says(venues: Venues) -> None:
    slept: list[float] = []
    refused = (429, {"Retry-After": "7"}, b"")
    venues.answers[COINBASE] = [refused, (503, {}, b""), (200, {}, COINBASE_LIST)]

    assert fetch(venues.url + COINBASE, None, slept.append) == COINBASE_LIST
    assert slept[0] == 7
    assert len(slept) == 2


@pytest.mark.parametrize(
    ("answer", "times"),
    [
        ((429, {"Retry-After": "3600"}, b""), 1),
        ((418, {"Retry-After": "Fri, 31 Dec 2100 23:59:59 GMT"}, b""), 1),
        ((404, {}, b""), 1),
        ((500, {}, b""), 3),
        ((429, {"Retry-After": "soon"}, b""), 3),
        ((302, {"Location": "/elsewhere"}, b""), 1),
    ],
)
def test_what_cannot_be_fetched_is_reported_after_a_few_attempts(venues: Venues, answer: Answer, times: int) -> None:
    venues.answers[COINBASE] = [answer]

    with pytest.raises(DownloadError, match=str(answer[0])):
        fetch(venues.url + COINBASE, None, [].append)
    assert venues.asked[COINBASE] == times


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/products", "no://thing", "http://[", "nothing"])
def test_a_venue_that_is_not_there_is_one_error(url: str) -> None:
    with pytest.raises(DownloadError, match="could not be fetched"):
        fetch(url, None, [].append)


def test_the_sensor_asks_while_a_venue_is_missing_ever_more_rarely(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    sensor = build_definitions(lake.settings, DAY).get_repository_def().get_sensor_def("register_sensor")
    cursor, asked = None, []
    with dg.DagsterInstance.ephemeral() as instance:
        for now_s in range(1_000_000, 1_003_600, 60):
            monkeypatch.setattr("k2_core.clock.now_s", partial(float, now_s))
            with dg.build_sensor_context(instance=instance, cursor=cursor) as context:
                found = sensor(context)
            if isinstance(found, dg.SensorResult) and found.run_requests:
                asked.append(now_s)
                cursor = found.cursor
        monkeypatch.undo()
        assert [later - before for before, later in pairwise(asked)] == [60, 120, 240, 480, 960]

        run(lake)
        with dg.build_sensor_context(instance=instance, cursor=cursor) as context:
            found = sensor(context)
    assert isinstance(found, dg.SensorResult)
    assert not found.run_requests
    assert found.cursor == ""


ROW = {"exchange": "v", "venue_symbol": "A-B", "symbol": "AB", "status": "trading", "valid_from": 0, "valid_to": None}


@pytest.mark.parametrize(
    ("rows", "broken"),
    [
        ([], {}),
        ([{}], {}),
        ([{"valid_to": 5}, {"valid_from": 5}], {}),
        ([{"valid_to": 6}, {"valid_from": 5}], {"overlap": 1}),
        ([{}, {"valid_from": 5}], {"overlap": 1}),
        ([{"valid_to": 4}, {"valid_from": 5}], {"hole": 1}),
        ([{"valid_to": 5}], {"ended": 1}),
        ([{"valid_from": 5, "valid_to": 5}, {"valid_from": 5}], {"empty": 1}),
    ],
)
def test_versions_that_contradict_each_other_are_counted(rows: list[dict[str, int]], broken: dict[str, int]) -> None:
    found = contradictions(frame(rows))

    assert {name: count for name, count in found.items() if count} == broken


def test_a_symbol_of_ours_that_two_of_a_venue_share_is_named_unless_one_is_gone() -> None:
    twins = [{}, {"venue_symbol": "AB-"}]

    assert shared_symbols(frame(twins)) == ["v AB"]
    assert shared_symbols(frame([{}, {"venue_symbol": "AB-", "status": "delisted"}])) == []
    assert shared_symbols(frame([{}, {"venue_symbol": "AB-", "exchange": "w"}])) == []


def frame(rows: list[dict[str, object]]) -> pl.DataFrame:
    empty = pl.from_arrow(arrow_schema(REFERENCE_INSTRUMENTS).empty_table())
    assert isinstance(empty, pl.DataFrame)
    schema = {name: empty.schema[name] for name in ROW}
    return pl.DataFrame([ROW | row for row in rows], schema=dict.fromkeys(ROW)).cast(schema)  # type: ignore[arg-type]
