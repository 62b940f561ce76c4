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
from tests.assets.own_topic import OwnTopic

pytestmark = pytest.mark.integration


@pytest.fixture(name="own_topic")
def an_own_topic(broker: str, registry: str, tmp_path: Path) -> Iterator[OwnTopic]:
    made = OwnTopic(broker, registry, tmp_path / "home", partitions=2)
    yield made
    made.catalog.close()


def produce(own_topic: OwnTopic, count: int, received_ns: int | None = None) -> None:
    """Write ``count`` trades, a cut-off frame, a control frame and no envelope into each partition."""
    producer = Producer({"bootstrap.servers": own_topic.broker, "log_level": 2})
    at_ns = clock.now_ns() if received_ns is None else received_ns
    for partition in range(own_topic.partitions):
        trades = [a_frame(number, T=at_ns // 1_000_000) for number in range(count)]
        for payload in (*trades, b"{cut", b'{"result":null,"id":1}'):
            producer.produce(
                own_topic.topic_name,
                an_envelope(payload, 0, at_ns, own_topic.schema_id),
                key=b"BTCUSDT",
                partition=partition,
            )
        producer.produce(own_topic.topic_name, b"no envelope", partition=partition)
    assert producer.flush(60) == 0


def today() -> date:
    return clock.now().date()


def reconciled(own_topic: OwnTopic, day: date | None = None) -> Counts:
    with Registry(own_topic.registry_url) as registry:
        schemas = SchemaLookup(registry)
        return reconcile_day(
            own_topic.catalog,
            own_topic.namespace,
            own_topic.broker,
            venue=own_topic.venue,
            day=day or today(),
            schemas=schemas,
        )


def bronze_rows(own_topic: OwnTopic) -> list[Row]:
    table = own_topic.catalog.load_table((own_topic.namespace, own_topic.layers.specs["bronze"].name))
    found: list[Row] = table.scan().to_arrow().to_pylist()
    return found


def picture(own_topic: OwnTopic) -> Counter[str]:
    return Counter(repr(row) for row in bronze_rows(own_topic))


def bronze_location(own_topic: OwnTopic) -> str:
    return own_topic.catalog.load_table((own_topic.namespace, own_topic.layers.specs["bronze"].name)).metadata_location


def delete(own_topic: OwnTopic, where: object) -> None:
    own_topic.catalog.load_table((own_topic.namespace, own_topic.layers.specs["bronze"].name)).delete(where)  # type: ignore[arg-type]


def test_a_whole_day_is_found_whole_and_nothing_is_added(own_topic: OwnTopic) -> None:
    produce(own_topic, 20)
    own_topic.drain()
    produce(own_topic, 5)  # not read by a drain yet: left to it
    before = bronze_location(own_topic)

    counts = reconciled(own_topic)

    assert counts == Counts(in_kafka=46, in_bronze=46)
    assert bronze_location(own_topic) == before


@pytest.mark.parametrize("write_rows", [100_000, 3])
def test_exactly_the_missing_rows_come_back_as_they_were(
    own_topic: OwnTopic, monkeypatch: pytest.MonkeyPatch, write_rows: int
) -> None:
    monkeypatch.setattr(reconcile, "_WRITE_ROWS", write_rows)
    produce(own_topic, 20)
    own_topic.drain()
    before, vectors = picture(own_topic), own_topic.vectors()
    delete(own_topic, In("kafka_offset", {0, 7, 20, 21, 22}))

    counts = reconciled(own_topic)

    assert picture(own_topic) == before
    assert own_topic.vectors() == vectors
    assert counts == Counts(in_kafka=46, in_bronze=36, added=10, silver_days={today()})
    again = reconciled(own_topic)
    assert again == Counts(in_kafka=46, in_bronze=46)


def test_a_day_that_went_altogether_comes_back(own_topic: OwnTopic) -> None:
    produce(own_topic, 20)
    own_topic.drain()
    before = picture(own_topic)
    delete(own_topic, AlwaysTrue())

    assert reconciled(own_topic).added == 46
    assert picture(own_topic) == before


def test_frames_of_other_days_are_left_alone(own_topic: OwnTopic) -> None:
    """Published late, after Kafka was away."""
    yesterday_ns = clock.now_ns() - 86_400 * clock.NS_PER_SECOND
    produce(own_topic, 4, yesterday_ns)
    produce(own_topic, 4)
    own_topic.drain()
    before = picture(own_topic)
    delete(own_topic, AlwaysTrue())

    assert reconciled(own_topic, today() - timedelta(days=1)).added == 12
    assert reconciled(own_topic, today() - timedelta(days=30)) == Counts()
    assert reconciled(own_topic).added == 16  # what is no envelope counts by Kafka's time
    assert picture(own_topic) == before


def test_only_days_that_can_be_rebuilt_are_named(own_topic: OwnTopic) -> None:
    now_ns = clock.now_ns()
    producer = Producer({"bootstrap.servers": own_topic.broker, "log_level": 2})
    for number, event_ms in enumerate((4_102_444_800_000, now_ns // 1_000_000_000)):  # 2100; seconds for milliseconds
        value = an_envelope(a_frame(number, T=event_ms), 0, now_ns, own_topic.schema_id)
        producer.produce(own_topic.topic_name, value, key=b"BTCUSDT", partition=0)
    assert producer.flush(60) == 0
    own_topic.drain()
    delete(own_topic, AlwaysTrue())

    assert reconciled(own_topic) == Counts(in_kafka=2, added=2, silver_days={today()})


def test_what_kafka_has_forgotten_is_counted(own_topic: OwnTopic) -> None:
    produce(own_topic, 3)
    own_topic.drain()
    own_topic.make_topic_again()
    produce(own_topic, 2)
    own_topic.drain()
    before = bronze_location(own_topic)

    counts = reconciled(own_topic)

    assert counts == Counts(in_kafka=10, in_bronze=22, no_longer_in_kafka=12)
    assert bronze_location(own_topic) == before


def test_doubled_rows_are_reported_and_stay(own_topic: OwnTopic) -> None:
    produce(own_topic, 3)
    own_topic.drain()
    spec = own_topic.layers.specs["bronze"]
    rows = [row for row in bronze_rows(own_topic) if row["kafka_offset"] in {1, 2}]
    own_topic.catalog.load_table((own_topic.namespace, spec.name)).append(to_arrow(spec, rows))
    before = picture(own_topic)

    assert reconciled(own_topic) == Counts(in_kafka=12, in_bronze=16, doubled=4)
    assert picture(own_topic) == before


def test_an_interrupted_run_adds_once(own_topic: OwnTopic, monkeypatch: pytest.MonkeyPatch) -> None:
    produce(own_topic, 6)
    own_topic.drain()
    before = picture(own_topic)
    delete(own_topic, EqualTo("kafka_partition", 1))

    for point in (".replace", ".replaced"):
        with monkeypatch.context() as patched:
            patched.setattr(rewrites, "reach", lambda reached, point=point: _stop(reached, point))
            with pytest.raises(KeyboardInterrupt):
                reconciled(own_topic)

    assert reconciled(own_topic).added == 0  # the second had committed
    assert picture(own_topic) == before


def _stop(reached: str, point: str) -> None:
    if reached.endswith(point):
        raise KeyboardInterrupt


def test_a_run_of_the_day_ends_in_a_check_that_says_what_it_found(
    own_topic: OwnTopic, monkeypatch: pytest.MonkeyPatch
) -> None:
    produce(own_topic, 3)
    own_topic.drain()
    settings = Settings(
        home=own_topic.home,
        kafka=Kafka(bootstrap_servers=own_topic.broker),
        registry=RegistrySettings(url=own_topic.registry_url),
    )
    spec, key = own_topic.layers.specs["bronze"], today().isoformat()
    bronze = [each for each in bronze_assets(own_topic.venue, daily(today())) if each.key.to_user_string() == spec.name]

    with dg.DagsterInstance.ephemeral() as instance:

        def run(*, succeeds: bool = True) -> None:
            lake = {"lake": Lake(settings)}
            made = dg.materialize(bronze, partition_key=key, resources=lake, instance=instance, raise_on_error=False)
            assert made.success == succeeds

        run()
        delete(own_topic, EqualTo("kafka_partition", 1))
        run()
        rows = [row for row in bronze_rows(own_topic) if row["kafka_offset"] == 1]
        own_topic.catalog.load_table((own_topic.namespace, spec.name)).append(to_arrow(spec, rows))
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
