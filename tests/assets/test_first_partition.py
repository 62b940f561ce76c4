"""The first partition: moved back by ten rows of older data, never forward, and shown by a running code server."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import dagster as dg
import pytest

from k2_assets.build_definitions import build_definitions
from k2_assets.lake.first_partition import FirstPartition, known_first_partition
from k2_assets.lake.lake_resource import Lake
from k2_assets.orchestration.code_location import CodeLocation
from k2_assets.orchestration.run_tags import PARTITION_TAG
from k2_core import clock
from k2_core.lake.tables import GOLD_OHLCV_1M, GOLD_QUOTES, GOLD_TRADES, bronze
from k2_core.settings import Ports, Settings
from tests.assets.lakes import NOON, SILVER, Row, SmallLake, a_quote, a_trade

TODAY = clock.now().date()


def days_before(count: int, days: int) -> list[Row]:
    """Return trades of one day before 2024-08-09."""
    return [a_trade(1000 * days + number, NOON - timedelta(days=days)) for number in range(count)]


@dataclass
class Webserver:
    """What Dagster's webserver is asked, and whether it answers."""

    asked: list[str] = field(default_factory=list)
    answers: bool = True
    port: int = 0


@pytest.fixture(name="webserver")
def a_webserver() -> Iterator[Webserver]:
    webserver = Webserver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # the base class's name
            webserver.asked.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
            body = json.dumps({"data": {"reloadRepositoryLocation": {"__typename": "WorkspaceLocationEntry"}}})
            self.send_response(200 if webserver.answers else 503)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    webserver.port = server.server_port
    yield webserver
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(name="first")
def of_a_lake(lake: SmallLake) -> FirstPartition:
    return FirstPartition(Lake(lake.settings).catalog(), lake.namespace)


def test_a_fresh_home_begins_today(lake: SmallLake, first: FirstPartition) -> None:
    assert known_first_partition(lake.settings) == TODAY

    assert first.settle() == TODAY


@pytest.mark.parametrize(
    ("older", "expected"),
    [
        ([(9, 5000)], None),
        ([(10, 5000)], 5000),
        ([(1, 5000), (8, 3), (400, 0)], 0),
        ([(1, 5000), (9, 3), (400, 0)], 3),
        ([(1, days) for days in range(50)], 40),
        ([(20, 6000)], None),
    ],
    ids=["nine rows", "ten rows", "a stray one before", "ten with the stray one", "one a day", "before 2010"],
)
def test_ten_older_rows_move_it_to_the_day_of_the_tenth(
    lake: SmallLake, first: FirstPartition, older: list[tuple[int, int]], expected: int | None
) -> None:
    lake.append(GOLD_TRADES, [row for count, days in older for row in days_before(count, days)])

    day = TODAY if expected is None else NOON.date() - timedelta(days=expected)
    assert first.settle() == day
    assert known_first_partition(lake.settings) == day


def test_it_never_moves_forward(lake: SmallLake, first: FirstPartition) -> None:
    lake.append(GOLD_TRADES, days_before(10, 3))
    assert first.settle() == NOON.date() - timedelta(days=3)

    lake.table(GOLD_TRADES).delete()

    assert first.settle() == FirstPartition(lake.catalog, lake.namespace).settle() == NOON.date() - timedelta(days=3)


def test_rows_of_trades_and_quotes_count_together_and_frames_apart(lake: SmallLake, first: FirstPartition) -> None:
    lake.append(GOLD_TRADES, days_before(5, 9))
    lake.append(GOLD_QUOTES, [a_quote(number, NOON - timedelta(days=7)) for number in range(4)])
    lake.append(SILVER, days_before(100, 12))  # a venue repeats its snapshot: gold says how many trades these are
    lake.append(bronze("binance", "trades"), frames(9, days=20))
    assert first.settle() == TODAY

    lake.append(GOLD_QUOTES, [a_quote(5, NOON - timedelta(days=7))])
    assert first.settle() == NOON.date() - timedelta(days=7)

    lake.append(bronze("binance", "quotes"), frames(1, days=19))
    assert first.settle() == NOON.date() - timedelta(days=19)


def frames(count: int, days: int) -> list[Row]:
    """Return rows of bronze that were received some days before 2024-08-09."""
    received = NOON - timedelta(days=days)
    return [
        {
            "topic": "a.topic",
            "topic_id": "an id",
            "kafka_partition": 0,
            "kafka_offset": offset,
            "kafka_timestamp": received,
            "payload": b"{}",
            **dict.fromkeys(("key", "schema_id", "venue", "channel", "symbol", "connection_id", "connection_seq")),
            **dict.fromkeys(("received_ns", "min_event_ts", "max_event_ts", "unread")),
            "ingestion_timestamp": received,
        }
        for offset in range(count)
    ]


def test_a_running_code_server_shows_the_moved_partition_and_has_the_pages_ask_for_it(
    lake: SmallLake, webserver: Webserver
) -> None:
    settings = Settings(home=lake.home, ports=Ports(dagster=webserver.port))
    location = CodeLocation(partial(build_definitions, settings), TODAY)
    before = starts_of(location)
    assert said(location) == f"the first partition is {TODAY}"
    assert webserver.asked == []

    lake.append(GOLD_TRADES, days_before(10, 3))
    moved = (NOON - timedelta(days=3)).date()
    assert "the pages show it once the daemon knows it" in said(location)
    assert webserver.asked == []

    location.moved_at -= 60
    webserver.answers = False
    assert "the pages do not show it yet: " in said(location)
    assert starts_of(location) == {moved} != before

    webserver.answers = True
    assert said(location) == said(location) == f"the first partition is {moved}"
    assert len([body for body in webserver.asked if "reloadRepositoryLocation" in body]) == 2  # one was not answered


def starts_of(location: CodeLocation) -> set[date]:
    """Return the first days of assets and of checks."""
    graph = location.asset_graph
    keys = [*graph.get_all_asset_keys(), *graph.asset_check_keys]
    found = {days for key in keys if (days := graph.get(key).partitions_def)}
    return {date.fromisoformat(days.get_first_partition_key() or "") for days in found}


def said(location: CodeLocation) -> str:
    sensor = location.get_sensor_def("first_partition_sensor")
    with (
        dg.DagsterInstance.ephemeral() as instance,
        dg.build_sensor_context(instance=instance, repository_def=location) as context,
    ):
        result = sensor(context)
    assert isinstance(result, dg.SkipReason)
    return result.skip_message or ""


def test_a_day_before_the_first_partition_is_refreshed_checked_and_reported(lake: SmallLake) -> None:
    lake.append(SILVER, days_before(3, 5000))
    key = (NOON - timedelta(days=5000)).date().isoformat()
    job = CodeLocation(partial(build_definitions, lake.settings), TODAY).get_implicit_global_asset_job_def()

    with dg.DagsterInstance.ephemeral() as instance:
        run = job.execute_in_process(
            instance=instance,
            tags={PARTITION_TAG: key},
            asset_selection=[dg.AssetKey(GOLD_TRADES.name), dg.AssetKey(GOLD_OHLCV_1M.name)],
        )

    assert run.success
    assert len(lake.gold()) == 3
    assert {event.partition for event in run.get_asset_materialization_events()} == {key}
    assert {(check.passed, check.partition) for check in run.get_asset_check_evaluations()} == {(True, key)}
