"""Status of a lake and a broker that are really there."""

import datetime as dt
import io
import json
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from click.testing import CliRunner, Result
from confluent_kafka import Producer, TopicCollection
from confluent_kafka.admin import AdminClient, NewTopic
from pyiceberg.catalog import Catalog
from pyiceberg.io.pyarrow import schema_to_pyarrow
from rich.console import Console

from k2_assets.kept_runs.heartbeat import Heart
from k2_assets.kept_runs.kept_run import kept_drain
from k2_core import clock, disk_space
from k2_core.disk_space import Disk
from k2_core.lake.catalog import ensure_tables, open_catalog
from k2_core.lake.tables import BRONZE_FEED_EVENTS, GOLD_OHLCV_1M, GOLD_RESTATEMENTS, GOLD_TABLES, all_tables
from k2_core.offsets import Offsets
from k2_core.settings import Catalog as CatalogSettings
from k2_core.settings import Ports, Settings
from k2_stack import dagster_records, kafka_lag, lake_status, stack_state, status, status_view
from k2_stack.cli import main
from k2_stack.dagster_records import FailedRun, FailingCheck
from k2_stack.iceberg_metadata import read_tables
from k2_stack.layer_status import LAYERS
from k2_stack.stack_state import PartState
from tests.reliability.waiting import wait_until
from tests.stack.homes import held_home

NAMESPACE = "market_data"
TOPIC = "market.crypto.trades.binance.raw"
MIDNIGHT = dt.datetime(2024, 8, 9, tzinfo=dt.UTC)
SOME_TIME_AGO = dt.timedelta(minutes=10)


@pytest.fixture
def settings(tmp_path: Path, free_ports: Callable[[], Ports]) -> Settings:
    return Settings(home=tmp_path, ports=free_ports())


@pytest.fixture
def catalog(settings: Settings) -> Catalog:
    opened = open_catalog(settings)
    ensure_tables(opened, NAMESPACE, all_tables(("binance",)))
    return opened


def append_candles(catalog: Catalog, *candles: tuple[str, dt.datetime]) -> None:
    table = catalog.load_table((NAMESPACE, GOLD_OHLCV_1M.name))
    schema = schema_to_pyarrow(table.schema(), include_field_ids=False)
    rows = [a_candle(schema, symbol, start) for symbol, start in candles]
    table.append(pa.Table.from_pylist(rows, schema))


def a_candle(schema: pa.Schema, symbol: str, start: dt.datetime) -> dict[str, object]:
    plain: dict[str, object] = {
        "symbol": symbol,
        "exchange": "binance",
        "window_date": start.date(),
        "is_complete": True,
        "first_trade_id": "1",
        "last_trade_id": "7",
        "close_price": Decimal("61700.50"),
    }
    return {field.name: plain.get(field.name, default_of(field, start)) for field in schema}


def default_of(field: pa.Field, start: dt.datetime) -> object:
    if pa.types.is_timestamp(field.type):
        return start
    return Decimal(7) if pa.types.is_decimal(field.type) else 7


def append_events(catalog: Catalog, *events: dict[str, object]) -> None:
    table = catalog.load_table((NAMESPACE, BRONZE_FEED_EVENTS.name))
    schema = schema_to_pyarrow(table.schema(), include_field_ids=False)
    table.append(pa.Table.from_pylist([{name: row[name] for name in schema.names} for row in events], schema))


def an_event(
    kind: str, first: int, last: int, *, symbol: str = "BTCUSDT", ago: dt.timedelta = SOME_TIME_AGO, **details: str
) -> dict[str, object]:
    at = clock.now() - ago
    moment = {"at_ns": clock.to_us(at) * 1000, "ingestion_timestamp": at, "kafka_timestamp": at}
    place = {"topic": "market.feed.events", "topic_id": "uuid", "kafka_partition": 0, "kafka_offset": first}
    event = {"kind": kind, "symbol": symbol, "venue": "binance", "connection_id": "c", "payload": b""}
    ids = {"first_missing": str(first), "last_missing": str(last)}
    return {**moment, **place, **event, "key": None, "schema_id": 1, "details": list({**ids, **details}.items())}


def test_newest_candle_is_none_when_there_is_no_candle(catalog: Catalog, settings: Settings) -> None:
    assert lake_status.newest_candle(read_tables(settings)) is None


def test_newest_candle_is_of_the_last_minute_when_files_came_in_any_order(catalog: Catalog, settings: Settings) -> None:
    newest = MIDNIGHT + dt.timedelta(minutes=4)
    append_candles(catalog, ("ETHUSDT", newest), ("BTCUSDT", newest))
    append_candles(catalog, ("BTCUSDT", MIDNIGHT - dt.timedelta(minutes=5)))

    assert lake_status.newest_candle(read_tables(settings)) == {
        "symbol": "BTCUSDT",
        "exchange": "binance",
        "window_start": "2024-08-09T00:04:00.000000Z",
        "close_price": "61700.5",
        "trade_count": 7,
        "is_complete": True,
    }


def test_rows_are_counted_when_tables_hold_some(catalog: Catalog, settings: Settings) -> None:
    append_candles(catalog, ("BTCUSDT", MIDNIGHT), ("ETHUSDT", MIDNIGHT))

    rows = status.gather(settings)["tables"]

    assert (rows["gold_ohlcv_1m"], rows["bronze_binance_trades"]) == (2, 0)
    assert sorted(rows) == sorted(spec.name for spec in all_tables(("binance",)))
    assert [name.partition("_")[0] for name in rows] == [
        *["bronze"] * 3,
        *["silver"] * 3,
        *["reference"] * 2,
        *["gold"] * len([*GOLD_TABLES, GOLD_RESTATEMENTS]),
    ]


def test_gaps_are_open_until_their_ids_came_after_all(catalog: Catalog, settings: Settings) -> None:
    append_events(catalog, an_event("gap", 10, 19), an_event("gap", 5, 6, symbol="ETHUSDT"), an_event("connect", 1, 2))
    append_events(catalog, an_event("recovered", 12, 12, state="gap"), an_event("recovered", 5, 6, state="silence"))

    found = status.gather(settings)

    assert lake_status.open_gaps(read_tables(settings), clock.now()) == {
        ("binance", "BTCUSDT"): [(10, 11), (13, 19)],
        ("binance", "ETHUSDT"): [(5, 6)],
    }
    assert {name: layer["open_gaps"] for name, layer in found["layers"].items()} == {
        **dict.fromkeys(LAYERS, 3),
        "gold_quotes": 0,
    }
    warning = "gaps of the last day that are open: 3; trades that were missed: 11 (binance BTCUSDT, binance ETHUSDT)"
    assert found["warnings"] == [warning]


def test_gaps_are_none_when_all_came_or_they_are_long_ago_or_reported_twice(
    catalog: Catalog, settings: Settings
) -> None:
    two_days = dt.timedelta(days=2)
    append_events(catalog, an_event("gap", 1, 9), an_event("gap", 3, 12), an_event("gap", 70, 80, ago=two_days))
    assert lake_status.open_gaps(read_tables(settings), clock.now()) == {("binance", "BTCUSDT"): [(1, 2), (3, 12)]}

    append_events(catalog, an_event("recovered", 1, 20, state="gap", ago=dt.timedelta(0)))

    assert lake_status.open_gaps(read_tables(settings), clock.now()) == {}


def lag_of_topic(settings: Settings, broker: str) -> tuple[int, tuple[str, ...]] | None:
    """The lag of this test's topic, and what is wrong: others may use the session's broker for other topics."""
    found = kafka_lag.waiting(broker, {TOPIC: read_tables(settings)["bronze_binance_trades"].offsets})
    return (found[TOPIC].messages, found[TOPIC].wrong) if TOPIC in found else None


def test_lag_counts_from_the_vector_when_the_lake_has_one(catalog: Catalog, settings: Settings, broker: str) -> None:
    admin = AdminClient({"bootstrap.servers": broker})
    if TOPIC in admin.list_topics(timeout=10).topics:
        admin.delete_topics([TOPIC])[TOPIC].result()
        wait_until(lambda: lag_of_topic(settings, broker) is None, lambda: "still a topic")
    assert lag_of_topic(settings, broker) is None

    admin.create_topics([NewTopic(TOPIC, 2)])[TOPIC].result()
    producer = Producer({"bootstrap.servers": broker})
    for partition, at_ms in ((0, 1_000), (0, 2_000), (0, 3_000), (1, 9_000), (1, 9_000)):
        producer.produce(TOPIC, b"frame", partition=partition, timestamp=at_ms)
    producer.flush()
    assert lag_of_topic(settings, broker) == (5, ())
    assert kafka_lag.waiting(broker, {TOPIC: Offsets()})[TOPIC].oldest_at_s == 1.0
    with a_platform(settings, a_part("broker", url=broker)):
        found = status.gather(settings)
    assert found["lag"][TOPIC] == 5
    assert found["layers"]["bronze"]["behind"]  # the producer's times are of 1970
    assert found["warnings"][0].startswith("bronze is behind: messages in Kafka that are not taken in: ")

    topic_id = str(admin.describe_topics(TopicCollection([TOPIC]))[TOPIC].result().topic_id)
    vector = Offsets({(topic_id, 0): 2, ("a topic of that name before", 1): 99})
    with catalog.load_table((NAMESPACE, "bronze_binance_trades")).transaction() as change:
        change.set_properties(vector.to_properties())
    assert lag_of_topic(settings, broker) == (3, ())
    assert kafka_lag.waiting(broker, {TOPIC: vector})[TOPIC].oldest_at_s == 3.0
    assert kafka_lag.waiting(broker, {TOPIC: Offsets({(topic_id, 0): 3, (topic_id, 1): 2})})[TOPIC] == (0, None, ())

    admin.delete_topics([TOPIC])[TOPIC].result()


def test_an_offset_that_kafka_does_not_have_is_said_and_is_no_lag(
    catalog: Catalog, settings: Settings, broker: str
) -> None:
    admin = AdminClient({"bootstrap.servers": broker})
    admin.create_topics([NewTopic(TOPIC, 1)])[TOPIC].result()
    try:
        wait_until(lambda: lag_of_topic(settings, broker) is not None, lambda: "no topic")
        topic_id = str(admin.describe_topics(TopicCollection([TOPIC]))[TOPIC].result().topic_id)
        with catalog.load_table((NAMESPACE, "bronze_binance_trades")).transaction() as change:
            change.set_properties(Offsets({(topic_id, 0): 7}).to_properties())

        found = lag_of_topic(settings, broker)
    finally:
        admin.delete_topics([TOPIC])[TOPIC].result()

    assert found == (
        0,
        (
            f"{TOPIC} partition 0: the committed offset 7 lies outside Kafka's log (0 to 0): "
            "Kafka has lost its newest messages; bring its data back",
        ),
    )


def test_a_part_whose_process_is_gone_is_not_ready_though_the_state_says_so(settings: Settings) -> None:
    """As when the supervisor cannot write its state: the disk is full."""
    part = stack_state.PartState("api", state=stack_state.READY, pid=2**22, process_started=1.0)
    stack_state.write(
        settings, stack_state.StackState(str(settings.home), "simulator", 1, 1.0, [part], phase="running")
    )

    with held_home(settings):
        found = status.gather(settings)

    assert found["ready"] is False
    assert [(each["state"], each["message"]) for each in found["parts"]] == [
        ("restarting", "it has ended, and is started again")
    ]


def test_a_drain_that_an_error_ended_is_failing_until_the_next_one_begins(settings: Settings) -> None:
    with pytest.raises(TypeError), Heart(kept_drain(settings), "run"):
        raise TypeError("expected bytes")

    ended = drain_of(settings)
    with Heart(kept_drain(settings), "next"):
        begun = drain_of(settings)
    planned = drain_of(settings)

    assert (ended["state"], begun["state"], planned["state"]) == ("failing", "ready", "restarting")
    assert "TypeError: expected bytes; the sensor starts the next one" in ended["message"]


def drain_of(settings: Settings) -> dict[str, object]:
    stack_state.write(settings, stack_state.StackState(str(settings.home), "simulator", 1, 1.0, []))
    with held_home(settings):
        found = status.gather(settings)
    return next(part for part in found["parts"] if part["name"] == "drain")


def test_a_disk_without_space_is_said(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    full = Disk(settings.home, 0, 10**9)
    monkeypatch.setattr(disk_space, "low_disks", lambda _: [full])

    found = status.gather(settings)

    assert found["message"] == full.sentence()


def test_status_is_not_ready_when_nothing_was_ever_started(settings: Settings) -> None:
    absent = settings.model_copy(update={"home": settings.home / "absent"})
    found = status.gather(absent)

    assert (found["ready"], found["source"], found["parts"], found["newest_candle"]) == (False, None, [], None)
    assert (found["warnings"], found["layers"]["bronze"]["lag"]) == ([], None)
    assert not absent.home.exists()


@contextmanager
def a_platform(settings: Settings, *parts: PartState, source: str = "simulator") -> Iterator[None]:
    """A home whose supervisor says that all of it runs."""
    now = stack_state.StackState(str(settings.home), source, os.getpid(), 1.0, list(parts), phase="running")
    stack_state.write(settings, now)
    with held_home(settings):
        yield


def a_part(name: str = "api", **other: Any) -> PartState:
    """A part that serves and that nobody started: its process is not looked at."""
    return PartState(name, own=False, state=stack_state.READY, **other)


def ended_with(settings: Settings, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Result:
    monkeypatch.setenv("K2_HOME", str(settings.home))
    for name, port in settings.ports:
        monkeypatch.setenv(f"K2_PORTS__{name.upper()}", str(port))
    return CliRunner().invoke(main, ["status", *arguments])


def test_status_ends_with_0_1_or_3(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ended_with(settings, monkeypatch, "--json").exit_code == 1
    with a_platform(settings, a_part()):
        ready = ended_with(settings, monkeypatch, "--json")
    with a_platform(settings, a_part("feed", trouble=True, message="it has no connection")):
        warned = ended_with(settings, monkeypatch, "--json")

    assert (ready.exit_code, json.loads(ready.stdout)["warnings"]) == (0, [])
    assert (warned.exit_code, json.loads(warned.stdout)["warnings"]) == (3, ["feed: it has no connection"])


def test_status_is_plain_in_a_pipe(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    with a_platform(settings, a_part("feed", trouble=True, message="it has no connection")):
        shown = ended_with(settings, monkeypatch).stdout

    assert shown.startswith(f"ready, with 1 warning · source simulator · {settings.home}\n")
    assert "warning feed: it has no connection" in shown
    assert "\x1b" not in shown


@pytest.mark.parametrize("no_color", [False, True])
def test_status_is_in_colour_on_a_terminal_unless_it_is_not_wanted(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, no_color: bool
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    if no_color:
        monkeypatch.setenv("NO_COLOR", "1")
    with a_platform(settings, a_part()):
        console = Console(force_terminal=True, file=io.StringIO(), width=120)
        console.print(status_view.render(status.gather(settings)))

    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert ("\x1b[32mready" in shown) is not no_color


def test_status_says_what_a_venue_that_sends_nothing_does(settings: Settings) -> None:
    silent = "the venue acknowledged trades and has sent none for 61 s"
    health = a_health({"silence": [silent], "lag": []}, {"trades": silent})
    port = settings.ports.api  # the platform's own, whatever the settings name by now
    with a_platform(settings, a_part("feed", port=port)), an_answer(port, health):
        found = status.gather(settings)

    assert found["warnings"] == ["feed: kraken: the venue acknowledged trades and has sent none for 61 s"]
    assert status.exit_code(found) == status.READY_WITH_WARNINGS


def a_health(states: dict[str, list[str]], silent: dict[str, str]) -> dict[str, Any]:
    """What a feed answers of which one venue has trouble."""
    troubled = {"states": states, "connections": [{"symbols": [], "silent": silent}]}
    return {"venues": {"kraken": troubled, "binance": {"states": {}}}}


RECORDED = {
    "stale": ["events of BTC/USD are 71820004 s old when they come"],
    "lag": ["events come, but the newest of all is 71820004 s old"],
    "skew": ["the venue's clock is 71820004.0 s behind ours"],
}
QUIET = {"silence": ["trades of BTC/USD were acknowledged and none has come for 301 s"]}


@pytest.mark.parametrize(
    ("source", "states", "silent"),
    [("recording kraken.jsonl.gz", RECORDED | QUIET, {"trades": "the venue sent none"}), ("live", QUIET, {})],
)
def test_an_old_recording_or_a_quiet_symbol_is_no_warning(
    settings: Settings, source: str, states: dict[str, list[str]], silent: dict[str, str]
) -> None:
    port = settings.ports.feed_health
    with a_platform(settings, a_part("feed", port=port), source=source), an_answer(port, a_health(states, silent)):
        found = status.gather(settings)

    assert (found["warnings"], status.exit_code(found)) == ([], status.READY)


def test_a_live_feed_whose_events_are_old_is_warned_of(settings: Settings) -> None:
    port = settings.ports.feed_health
    with a_platform(settings, a_part("feed", port=port), source="live"), an_answer(port, a_health(RECORDED, {})):
        found = status.gather(settings)

    assert found["warnings"] == [f"feed: kraken: {text}" for texts in RECORDED.values() for text in texts]


def test_a_check_that_only_warns_is_warned_of_for_a_day(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = clock.now_ns() / clock.NS_PER_SECOND
    checks = [
        FailingCheck("gold_crypto_trades", "ids_go_on", "2024-08-08", only_warns=True, judged_at_s=now_s - 90_000),
        FailingCheck("gold_crypto_trades", "ids_go_on", "2024-08-09", only_warns=True, judged_at_s=now_s - 80_000),
        FailingCheck("gold_crypto_quotes", "unique", "2024-08-08", judged_at_s=now_s - 90_000),
    ]
    monkeypatch.setattr(dagster_records, "failing_checks", lambda _: checks)

    found = status.gather(settings)

    assert found["warnings"] == [
        "the check unique of gold_crypto_quotes fails for 2024-08-08",
        "the check ids_go_on of gold_crypto_trades fails for 2024-08-09",
    ]
    assert found["layers"]["gold_trades"]["failing_checks"] == ["gold_crypto_trades:ids_go_on"]


def test_failed_runs_and_failing_checks_are_shown_at_their_layers(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [FailedRun("1", "main_drain", (), 1.0), FailedRun("2", "__ASSET_JOB", (GOLD_OHLCV_1M.name,), 2.0)]
    checks = [FailingCheck(GOLD_OHLCV_1M.name, "invariants", day) for day in ("2024-08-08", "2024-08-09")]
    monkeypatch.setattr(dagster_records, "failed_runs", lambda *_: [*runs, FailedRun("3", "maintain", (), 3.0)])
    monkeypatch.setattr(dagster_records, "failing_checks", lambda _: [*checks, FailingCheck("other", "unique", None)])

    with a_platform(settings, a_part("dagster-webserver", url="http://127.0.0.1:3000")):
        found = status.gather(settings)

    layers = found["layers"]
    assert [layers[name]["failed_runs"] for name in LAYERS] == [1, 1, 0, 0, 1]
    assert [layers[name]["failing_checks"] for name in LAYERS] == [[], [], [], [], ["gold_ohlcv_1m:invariants"]]
    once, page = "failed once within the last hour; the last one:", "http://127.0.0.1:3000/runs"
    assert found["warnings"] == [
        f"the run of main_drain {once} {page}/1",
        f"the run of gold_ohlcv_1m {once} {page}/2",
        f"the run of maintain {once} {page}/3",
        "the check invariants of gold_ohlcv_1m fails for 2024-08-09, 2024-08-08",
        "the check unique of other fails",
    ]


def test_records_that_cannot_be_read_are_a_sentence(settings: Settings) -> None:
    store = settings.home / "dagster" / "history" / "runs.db"
    store.parent.mkdir(parents=True)
    store.write_bytes(b"no database, and long enough to be taken for one" * 100)

    (warning,) = status.gather(settings)["warnings"]

    assert warning.startswith("failed runs and checks are not known, since Dagster's records cannot be read (")


def test_a_lake_that_cannot_be_read_is_a_sentence_and_the_parts_are_shown(catalog: Catalog, settings: Settings) -> None:
    append_candles(catalog, ("BTCUSDT", MIDNIGHT))
    for file in settings.home.glob("warehouse/**/*.parquet"):
        file.write_bytes(b"no parquet")

    with a_platform(settings, a_part()):
        found = status.gather(settings)

    assert [part["state"] for part in found["parts"]] == ["ready"]
    assert found["tables"]["gold_ohlcv_1m"] == 1
    assert found["warnings"] == [found["message"]]
    assert found["message"].startswith("the lake cannot be read: ")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (
            b"no database, and long enough to be taken for one" * 100,
            "(file is not a database): see that it can be read",
        ),
        (None, "(database is locked): end the program that holds it"),
    ],
    ids=["broken", "locked"],
)
def test_a_catalog_that_cannot_be_read_is_a_sentence(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, content: bytes | None, why: str
) -> None:
    monkeypatch.setattr(status, "_CATALOG_WAIT_S", 0.01)
    file = settings.home / "catalog.db"
    if content is not None:
        file.write_bytes(content)
    with closing(sqlite3.connect(file, isolation_level=None)) as other, a_platform(settings, a_part()):
        if content is None:
            other.execute("CREATE TABLE some (thing)")
            other.execute("BEGIN EXCLUSIVE")
        found = status.gather(settings)

    assert [part["state"] for part in found["parts"]] == ["ready"]
    (warning,) = found["warnings"]
    assert warning.startswith(f"the lake cannot be read: the catalog {file} cannot be read {why}")


@pytest.mark.parametrize("made", [False, True])
def test_status_makes_no_lake_where_a_catalog_is_mistyped(settings: Settings, *, made: bool) -> None:
    file = settings.home / "mistyped.db"
    if made:
        with closing(sqlite3.connect(file)) as other:
            other.execute("CREATE TABLE some (thing)")
    before = file.read_bytes() if made else None

    found = status.gather(settings.model_copy(update={"catalog": settings_of_catalog(file)}))

    assert (found["tables"], found["warnings"]) == ({}, [])
    assert (file.read_bytes() if file.exists() else None) == before


def test_status_reads_a_catalog_of_the_users_own(catalog: Catalog, settings: Settings) -> None:
    own = settings_of_catalog(settings.home / "catalog.db")
    elsewhere = settings.model_copy(update={"catalog": own})

    assert status.gather(elsewhere)["tables"] == status.gather(settings)["tables"] != {}
    other = settings.model_copy(update={"catalog": own.model_copy(update={"namespace": "other"})})
    assert (status.gather(other)["tables"], status.gather(other)["warnings"]) == ({}, [])


def settings_of_catalog(file: Path) -> CatalogSettings:
    return CatalogSettings(uri=f"sqlite:///{file}")


def test_a_drain_that_died_without_a_word_is_reported(settings: Settings) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    with Heart(kept_drain(settings), "run"):
        pass
    with closing(sqlite3.connect(kept_drain(settings).store)) as store, store:
        store.execute("UPDATE heartbeat SET pid = ?, phase = 'reading', beat_at = beat_at - 400", (ended.pid,))
    with a_platform(settings, a_part()):
        found = status.gather(settings)

    (warning,) = found["warnings"]
    assert f"its process {ended.pid} ended while reading and left no message: it was killed, or crashed" in warning
    assert "no other has begun for 400 s" in warning


def test_status_loads_none_of_the_large_libraries() -> None:
    """Of pyiceberg it loads the compiled decoder, which needs nothing else; all other modules of it need its types."""
    large = {"dagster", "httpx", "pandas", "polars", "pyarrow", "pyiceberg.typedef", "sqlalchemy", "structlog"}
    program = f"import sys, k2_stack.status, k2_stack.status_view; print({large} & set(sys.modules))"

    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout == b"set()\n"


@contextmanager
def an_answer(port: int, health: dict[str, Any]) -> Iterator[None]:
    """A server that answers everything with ``health``."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # http.server's name
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(health).encode())

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", port), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
