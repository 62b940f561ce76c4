"""Status of a lake and a broker that are really there."""

import datetime as dt
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from confluent_kafka import Producer, TopicCollection
from confluent_kafka.admin import AdminClient, NewTopic
from pyiceberg.catalog import Catalog
from pyiceberg.io.pyarrow import schema_to_pyarrow

from k2_assets.drain.beat import Heart
from k2_assets.drain.drain import beat_store
from k2_core import storage
from k2_core.catalog import ensure_tables, open_catalog
from k2_core.offsets import Offsets
from k2_core.settings import Ports, Settings
from k2_core.storage import Disk
from k2_core.tables import GOLD_OHLCV_1M, all_tables
from k2_stack import lake, state, status
from tests.reliability.waiting import wait_until

NAMESPACE = "market_data"
TOPIC = "market.crypto.trades.binance.raw"
MIDNIGHT = dt.datetime(2024, 8, 9, tzinfo=dt.UTC)


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


def test_newest_candle_is_none_when_there_is_no_candle(catalog: Catalog) -> None:
    assert lake.newest_candle(catalog, NAMESPACE) is None


def test_newest_candle_is_of_the_last_minute_when_files_came_in_any_order(catalog: Catalog) -> None:
    newest = MIDNIGHT + dt.timedelta(minutes=4)
    append_candles(catalog, ("ETHUSDT", newest), ("BTCUSDT", newest))
    append_candles(catalog, ("BTCUSDT", MIDNIGHT - dt.timedelta(minutes=5)))

    assert lake.newest_candle(catalog, NAMESPACE) == {
        "symbol": "BTCUSDT",
        "exchange": "binance",
        "window_start": "2024-08-09T00:04:00.000000Z",
        "close_price": "61700.5",
        "trade_count": 7,
        "is_complete": True,
    }


def test_rows_are_counted_when_tables_hold_some(catalog: Catalog) -> None:
    append_candles(catalog, ("BTCUSDT", MIDNIGHT), ("ETHUSDT", MIDNIGHT))

    rows = lake.rows_by_table(catalog, NAMESPACE)

    assert rows["gold_ohlcv_1m"] == 2
    assert rows["bronze_binance_trades"] == 0


def lag_of_topic(catalog: Catalog, broker: str) -> tuple[int, list[str]]:
    """The lag of this test's topic, and what is wrong: others may use the session's broker for other topics."""
    lag, wrong = lake.lag_by_topic(catalog, NAMESPACE, broker)
    return lag[TOPIC], wrong


def test_lag_counts_from_the_vector_when_the_lake_has_one(catalog: Catalog, broker: str) -> None:
    admin = AdminClient({"bootstrap.servers": broker})
    if TOPIC in admin.list_topics(timeout=10).topics:
        admin.delete_topics([TOPIC])[TOPIC].result()
    assert TOPIC not in lake.lag_by_topic(catalog, NAMESPACE, broker)[0]

    admin.create_topics([NewTopic(TOPIC, 2)])[TOPIC].result()
    producer = Producer({"bootstrap.servers": broker})
    for partition in (0, 0, 0, 1, 1):
        producer.produce(TOPIC, b"frame", partition=partition)
    producer.flush()
    assert lag_of_topic(catalog, broker) == (5, [])

    topic_id = str(admin.describe_topics(TopicCollection([TOPIC]))[TOPIC].result().topic_id)
    vector = Offsets({(topic_id, 0): 2, ("a topic of that name before", 1): 99})
    with catalog.load_table((NAMESPACE, "bronze_binance_trades")).transaction() as change:
        change.set_properties(vector.to_properties())
    assert lag_of_topic(catalog, broker) == (3, [])

    admin.delete_topics([TOPIC])[TOPIC].result()


def test_an_offset_that_kafka_does_not_have_is_said_and_is_no_lag(catalog: Catalog, broker: str) -> None:
    admin = AdminClient({"bootstrap.servers": broker})
    admin.create_topics([NewTopic(TOPIC, 1)])[TOPIC].result()
    try:
        wait_until(lambda: TOPIC in lake.lag_by_topic(catalog, NAMESPACE, broker)[0], lambda: "no topic")
        topic_id = str(admin.describe_topics(TopicCollection([TOPIC]))[TOPIC].result().topic_id)
        with catalog.load_table((NAMESPACE, "bronze_binance_trades")).transaction() as change:
            change.set_properties(Offsets({(topic_id, 0): 7}).to_properties())

        lag, wrong = lag_of_topic(catalog, broker)
    finally:
        admin.delete_topics([TOPIC])[TOPIC].result()

    assert lag == 0
    assert wrong == [
        f"{TOPIC} partition 0: the committed offset 7 lies outside Kafka's log (0 to 0): "
        "Kafka has lost its newest messages; bring its data back"
    ]


def test_a_part_whose_process_is_gone_is_not_ready_though_the_state_says_so(settings: Settings) -> None:
    """As when the supervisor cannot write its state: the disk is full."""
    lock = state.Lock(settings)
    assert lock.acquire()
    part = state.PartState("api", state=state.READY, pid=2**22, process_started=1.0)
    state.write(settings, state.StackState(str(settings.home), "simulator", 1, 1.0, [part], phase="running"))

    found = status.gather(settings)

    lock.release()
    assert found["ready"] is False
    assert [(each["state"], each["message"]) for each in found["parts"]] == [
        ("restarting", "it has ended, and is started again")
    ]


def test_a_drain_that_an_error_ended_is_failing_until_the_next_one_begins(settings: Settings) -> None:
    store, name = beat_store(settings), settings.drain.name
    with pytest.raises(TypeError), Heart(store, name, "run", 60):
        raise TypeError("expected bytes")

    ended = drain_of(settings)
    with Heart(store, name, "next", 60):
        begun = drain_of(settings)
    planned = drain_of(settings)

    assert (ended["state"], begun["state"], planned["state"]) == ("failing", "ready", "restarting")
    assert "TypeError: expected bytes; the sensor starts the next one" in ended["message"]


def drain_of(settings: Settings) -> dict[str, object]:
    state.write(settings, state.StackState(str(settings.home), "simulator", 1, 1.0, []))
    lock = state.Lock(settings)
    assert lock.acquire()
    found = status.gather(settings)
    lock.release()
    return next(part for part in found["parts"] if part["name"] == "drain")


def test_a_disk_without_space_is_said(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    full = Disk(settings.home, 0, 10**9)
    monkeypatch.setattr(storage, "low_disks", lambda _: [full])

    found = status.gather(settings)

    assert found["message"] == full.sentence()


def test_status_is_not_ready_when_nothing_was_ever_started(settings: Settings) -> None:
    found = status.gather(settings)

    assert (found["ready"], found["source"], found["parts"], found["newest_candle"]) == (False, None, [], None)
