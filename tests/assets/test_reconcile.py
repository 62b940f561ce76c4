"""A day of bronze held against Kafka, with a real broker."""

from collections import Counter
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import pytest
from confluent_kafka import Producer
from pyiceberg.expressions import AlwaysTrue, EqualTo, In

from k2_assets.bronze import reconcile
from k2_assets.bronze.assets import bronze_assets
from k2_assets.bronze.reconcile import Counts, reconcile_day
from k2_assets.kafka.schema_lookup import SchemaLookup
from k2_assets.lake import rewrites
from k2_assets.lake.lake_resource import Lake
from k2_assets.orchestration.daily_partitions import daily
from k2_core import clock
from k2_core.registry import Registry
from k2_core.settings import Kafka, Settings
from k2_core.settings import Registry as RegistrySettings
from tests.assets.frames import a_frame, an_envelope
from tests.assets.lakes import Row, to_arrow
from tests.assets.rooms import Room

pytestmark = pytest.mark.integration


@pytest.fixture(name="room")
def a_room(broker: str, registry: str, tmp_path: Path) -> Iterator[Room]:
    made = Room(broker, registry, tmp_path / "home", partitions=2)
    yield made
    made.catalog.close()


def produce(room: Room, count: int, received_ns: int | None = None) -> None:
    """Write ``count`` trades, a cut-off frame, a control frame and no envelope into each partition."""
    producer = Producer({"bootstrap.servers": room.broker, "log_level": 2})
    at_ns = clock.now_ns() if received_ns is None else received_ns
    for partition in range(room.partitions):
        trades = [a_frame(number, T=at_ns // 1_000_000) for number in range(count)]
        for payload in (*trades, b"{cut", b'{"result":null,"id":1}'):
            producer.produce(
                room.topic_name, an_envelope(payload, 0, at_ns, room.schema_id), key=b"BTCUSDT", partition=partition
            )
        producer.produce(room.topic_name, b"no envelope", partition=partition)
    assert producer.flush(60) == 0


def today() -> date:
    return clock.now().date()


def reconciled(room: Room, day: date | None = None) -> Counts:
    with Registry(room.registry_url) as registry:
        schemas = SchemaLookup(registry)
        return reconcile_day(
            room.catalog, room.namespace, room.broker, venue=room.venue, day=day or today(), schemas=schemas
        )


def bronze_rows(room: Room) -> list[Row]:
    table = room.catalog.load_table((room.namespace, room.layers.specs["bronze"].name))
    found: list[Row] = table.scan().to_arrow().to_pylist()
    return found


def picture(room: Room) -> Counter[str]:
    return Counter(repr(row) for row in bronze_rows(room))


def bronze_location(room: Room) -> str:
    return room.catalog.load_table((room.namespace, room.layers.specs["bronze"].name)).metadata_location


def delete(room: Room, where: object) -> None:
    room.catalog.load_table((room.namespace, room.layers.specs["bronze"].name)).delete(where)  # type: ignore[arg-type]


def test_a_whole_day_is_found_whole_and_nothing_is_added(room: Room) -> None:
    produce(room, 20)
    room.drain()
    produce(room, 5)  # not read by a drain yet: left to it
    before = bronze_location(room)

    counts = reconciled(room)

    assert counts == Counts(in_kafka=46, in_bronze=46)
    assert bronze_location(room) == before


@pytest.mark.parametrize("write_rows", [100_000, 3])
def test_exactly_the_missing_rows_come_back_as_they_were(
    room: Room, monkeypatch: pytest.MonkeyPatch, write_rows: int
) -> None:
    monkeypatch.setattr(reconcile, "_WRITE_ROWS", write_rows)
    produce(room, 20)
    room.drain()
    before, vectors = picture(room), room.vectors()
    delete(room, In("kafka_offset", {0, 7, 20, 21, 22}))

    counts = reconciled(room)

    assert picture(room) == before
    assert room.vectors() == vectors
    assert counts == Counts(in_kafka=46, in_bronze=36, added=10, silver_days={today()})
    again = reconciled(room)
    assert again == Counts(in_kafka=46, in_bronze=46)


def test_a_day_that_went_altogether_comes_back(room: Room) -> None:
    produce(room, 20)
    room.drain()
    before = picture(room)
    delete(room, AlwaysTrue())

    assert reconciled(room).added == 46
    assert picture(room) == before


def test_frames_of_other_days_are_left_alone(room: Room) -> None:
    """Published late, after Kafka was away."""
    yesterday_ns = clock.now_ns() - 86_400 * clock.NS_PER_SECOND
    produce(room, 4, yesterday_ns)
    produce(room, 4)
    room.drain()
    before = picture(room)
    delete(room, AlwaysTrue())

    assert reconciled(room, today() - timedelta(days=1)).added == 12
    assert reconciled(room, today() - timedelta(days=30)) == Counts()
    assert reconciled(room).added == 16  # what is no envelope counts by Kafka's time
    assert picture(room) == before


def test_only_days_that_can_be_rebuilt_are_named(room: Room) -> None:
    now_ns = clock.now_ns()
    producer = Producer({"bootstrap.servers": room.broker, "log_level": 2})
    for number, event_ms in enumerate((4_102_444_800_000, now_ns // 1_000_000_000)):  # 2100; seconds for milliseconds
        value = an_envelope(a_frame(number, T=event_ms), 0, now_ns, room.schema_id)
        producer.produce(room.topic_name, value, key=b"BTCUSDT", partition=0)
    assert producer.flush(60) == 0
    room.drain()
    delete(room, AlwaysTrue())

    assert reconciled(room) == Counts(in_kafka=2, added=2, silver_days={today()})


def test_what_kafka_has_forgotten_is_counted(room: Room) -> None:
    produce(room, 3)
    room.drain()
    room.make_topic_again()
    produce(room, 2)
    room.drain()
    before = bronze_location(room)

    counts = reconciled(room)

    assert counts == Counts(in_kafka=10, in_bronze=22, no_longer_in_kafka=12)
    assert bronze_location(room) == before


def test_doubled_rows_are_reported_and_stay(room: Room) -> None:
    produce(room, 3)
    room.drain()
    spec = room.layers.specs["bronze"]
    rows = [row for row in bronze_rows(room) if row["kafka_offset"] in {1, 2}]
    room.catalog.load_table((room.namespace, spec.name)).append(to_arrow(spec, rows))
    before = picture(room)

    assert reconciled(room) == Counts(in_kafka=12, in_bronze=16, doubled=4)
    assert picture(room) == before


def test_an_interrupted_run_adds_once(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    produce(room, 6)
    room.drain()
    before = picture(room)
    delete(room, EqualTo("kafka_partition", 1))

    for point in (".replace", ".replaced"):
        with monkeypatch.context() as patched:
            patched.setattr(rewrites, "reach", lambda reached, point=point: _stop(reached, point))
            with pytest.raises(KeyboardInterrupt):
                reconciled(room)

    assert reconciled(room).added == 0  # the second had committed
    assert picture(room) == before


def _stop(reached: str, point: str) -> None:
    if reached.endswith(point):
        raise KeyboardInterrupt


def test_a_run_of_the_day_ends_in_a_check_that_says_what_it_found(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    produce(room, 3)
    room.drain()
    settings = Settings(
        home=room.home, kafka=Kafka(bootstrap_servers=room.broker), registry=RegistrySettings(url=room.registry_url)
    )
    spec, key = room.layers.specs["bronze"], today().isoformat()
    bronze = [each for each in bronze_assets(room.venue, daily(today())) if each.key.to_user_string() == spec.name]

    with dg.DagsterInstance.ephemeral() as instance:

        def run(*, succeeds: bool = True) -> None:
            lake = {"lake": Lake(settings)}
            made = dg.materialize(bronze, partition_key=key, resources=lake, instance=instance, raise_on_error=False)
            assert made.success == succeeds

        run()
        delete(room, EqualTo("kafka_partition", 1))
        run()
        rows = [row for row in bronze_rows(room) if row["kafka_offset"] == 1]
        room.catalog.load_table((room.namespace, spec.name)).append(to_arrow(spec, rows))
        run(succeeds=False)
        history = instance.event_log_storage.get_asset_check_execution_history(
            dg.AssetCheckKey(dg.AssetKey(spec.name), "same_as_kafka"), limit=10
        )

    found = [each.evaluation for each in reversed(history) if each.evaluation]
    assert [(each.passed, each.partition) for each in found] == [(True, key), (False, key), (False, key)]
    assert [each.severity for each in found[1:]] == [dg.AssetCheckSeverity.WARN, dg.AssetCheckSeverity.ERROR]
    assert [each.description for each in found] == [
        f"12 messages of {key} in Kafka, 12 in bronze: bronze lacks none.",
        f"12 messages of {key} in Kafka, 6 in bronze: 6 missing messages added, silver days to rebuild: {key}.",
        f"12 messages of {key} in Kafka, 14 in bronze: 2 messages of bronze twice, nothing was removed.",
    ]
