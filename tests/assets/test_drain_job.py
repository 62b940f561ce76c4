"""The drain as Dagster runs it, on a real broker and registry: a planned end is a success, and says what it did."""

import time
from collections import Counter
from pathlib import Path

import dagster as dg
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from k2_assets.drain.drain_job import drain_job
from k2_assets.lake.lake_resource import Lake
from k2_core import topics
from k2_core.raw_frame import CONTROL, Encoder
from k2_core.registry import Registry
from k2_core.settings import Drain, Kafka, Settings
from k2_core.settings import Registry as RegistrySettings
from k2_core.venues import binance

TOPIC = topics.raw_topic("crypto", "trades", "binance")
RECEIVED_NS = 1_723_161_255_400_000_000


def a_frame(trade_id: int) -> bytes:
    return (
        f'{{"stream":"btcusdt@trade","data":{{"e":"trade","E":1723161255343,"s":"BTCUSDT","t":{trade_id},'
        f'"p":"61837.63000000","q":"0.02000000","T":1723161255342,"m":true,"M":true}}}}'
    ).encode()


def a_new_topic(broker: str) -> None:
    admin = AdminClient({"bootstrap.servers": broker})
    if TOPIC in admin.list_topics(timeout=10).topics:
        admin.delete_topics([TOPIC])[TOPIC].result()
        while TOPIC in admin.list_topics(timeout=10).topics:
            time.sleep(0.1)
    admin.create_topics([NewTopic(TOPIC, 4, 1, config=topics.topic_settings(7))])[TOPIC].result()


def produce(broker: str, registry: str, frames: list[tuple[str, bytes]]) -> None:
    with Registry(registry) as client:
        schema_id = client.register(topics.subject(TOPIC), topics.raw_frame_schema())
    encoder = Encoder(schema_id, "binance", "c0ffee00-0000-4000-8000-000000000000")
    producer = Producer({"bootstrap.servers": broker})
    for index, (channel, payload) in enumerate(frames):
        producer.produce(TOPIC, encoder.encode(RECEIVED_NS + index, index, channel, "", payload), partition=index % 4)
    producer.flush()


def a_run_that_reports(settings: Settings, instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    """Run a drain, and another while the machine was too busy for one to begin within its time."""
    silver = dg.AssetKey("silver_binance_trades")
    while True:
        run = drain_job(settings, [binance]).execute_in_process(instance=instance, resources={"lake": Lake(settings)})
        if not run.success or silver in {event.asset_key for event in run.get_asset_materialization_events()}:
            return run


@pytest.mark.integration
def test_drain_run_ends_as_planned_and_reports_what_it_committed(broker: str, registry: str, tmp_path: Path) -> None:
    settings = Settings(
        home=tmp_path,
        kafka=Kafka(bootstrap_servers=broker),
        registry=RegistrySettings(url=registry),
        drain=Drain(work_minutes=0.1, commit_interval_s=1, report_interval_s=0),
    )
    a_new_topic(broker)
    frames = [("trade", a_frame(trade_id)) for trade_id in range(1, 41)]
    frames += [(CONTROL, b'{"result":null,"id":1}'), ("unreadable", b'{"stream"')]
    produce(broker, registry, frames)

    expected = {"bronze_binance_trades": 42, "silver_binance_trades": 40, "silver_binance_rejected": 1}
    with dg.DagsterInstance.ephemeral() as instance:
        run = a_run_that_reports(settings, instance)

    assert run.success
    reported = Counter[str]()
    for event in run.get_asset_materialization_events():
        materialization = event.step_materialization_data.materialization
        if materialization.asset_key.to_user_string() not in expected:
            continue  # what other tests' feeds have left on the broker
        reported[materialization.asset_key.to_user_string()] += int(materialization.metadata["rows"].value)  # type: ignore[arg-type]
        assert materialization.partition == "2024-08-08"
        if materialization.asset_key.to_user_string().startswith("bronze"):
            assert materialization.metadata["lag (messages)"].value == 0
    assert reported == expected
    checks = [each for each in run.get_asset_check_evaluations() if each.asset_key.to_user_string() in expected]
    assert {(check.check_name, check.passed, check.partition) for check in checks} == {
        ("schema_and_ranges", True, "2024-08-08"),
        ("reject_rate", False, "2024-08-08"),
    }
    last = {check.check_name: check.description for check in checks}
    assert last["schema_and_ranges"] == "40 rows of 2024-08-08 in this run of the drain: no fault."
    assert last["reject_rate"] == "1 of 41 rows of the last 5 min were rejected (2.4 %): 1 malformed_json."
