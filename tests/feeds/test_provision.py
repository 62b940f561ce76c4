import json
import threading
import time
import uuid

import pytest
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from k2_core import topics
from k2_core.errors import IncompatibleSchema, TopicError
from k2_core.registry import Registry, forbidden_change
from k2_core.settings import Kafka, Ports, Settings
from k2_feeds.kafka.provision import Stopped, ensure_topic, provision
from tests.feeds.feed_fixtures import DATA, a_fed_venue, free_port


def a_topic() -> str:
    return topics.raw_topic("crypto", "trades", f"made_{uuid.uuid4().hex[:8]}")


def config_of(broker: str, topic: str) -> dict[str, str]:
    resource = ConfigResource(ResourceType.TOPIC, topic)
    admin = AdminClient({"bootstrap.servers": broker})
    entries = admin.describe_configs([resource])[resource].result(timeout=10)
    return {name: entry.value for name, entry in entries.items()}


def a_record(kind: object) -> str:
    return json.dumps({"type": "record", "name": "R", "fields": [{"name": "a", "type": kind}]})


def a_decimal(scale: int) -> dict[str, object]:
    return {"type": "bytes", "logicalType": "decimal", "precision": 28, "scale": scale}


@pytest.mark.integration
def test_provision_makes_topics_and_schemas_and_finds_them_again(
    broker: str, registry: str, parts_settings: Settings
) -> None:
    venue, said = a_fed_venue(), list[str]()

    first = provision(parts_settings, venue, DATA, said.append, threading.Event())
    second = provision(parts_settings, venue, DATA, said.append, threading.Event())

    assert first == second
    assert said == []
    assert len(first.raw_topics) == 2
    for topic in first.raw_topics:
        found = config_of(broker, topic)
        assert {name: found[name] for name in topics.topic_settings(7)} == topics.topic_settings(7)
    with Registry(registry) as client:
        schema = client.schema(first.raw_schema_ids[first.quotes_topic])
    assert schema is not None
    assert json.loads(schema)["name"] == "RawFrame"


@pytest.mark.integration
def test_settings_of_an_existing_topic_are_corrected(broker: str, parts_settings: Settings) -> None:
    topic, admin = a_topic(), AdminClient({"bootstrap.servers": broker})
    config = {"message.timestamp.type": "CreateTime", "retention.ms": "1000"}
    admin.create_topics([NewTopic(topic, 4, 1, config=config)])[topic].result(timeout=30)

    ensure_topic(admin, topic, parts_settings)

    for _ in range(100):  # Kafka answers before it shows the change
        found = config_of(broker, topic)
        if found["retention.ms"] != "1000":
            break
        time.sleep(0.1)
    assert (found["message.timestamp.type"], found["retention.ms"]) == ("LogAppendTime", "604800000")


@pytest.mark.integration
def test_an_existing_topic_with_other_partitions_is_refused(broker: str) -> None:
    topic, admin = a_topic(), AdminClient({"bootstrap.servers": broker})
    admin.create_topics([NewTopic(topic, 2, 1)])[topic].result(timeout=30)

    with pytest.raises(TopicError, match="set K2_KAFKA__TOPIC_PARTITIONS=2"):
        ensure_topic(admin, topic, Settings(kafka=Kafka(topic_partitions=4)))


@pytest.mark.integration
def test_a_topic_that_kafka_cannot_make_is_said(broker: str) -> None:
    with pytest.raises(TopicError, match="replication"):
        ensure_topic(AdminClient({"bootstrap.servers": broker}), a_topic(), Settings(kafka=Kafka(topic_replication=3)))


@pytest.mark.integration
def test_an_incompatible_schema_is_refused_with_the_registrys_reason(registry: str, parts_settings: Settings) -> None:
    venue = a_fed_venue()
    subject = topics.subject(topics.raw_topic("crypto", "trades", venue.VENUE))
    with Registry(registry) as client:
        client.register(
            subject, json.dumps({"type": "record", "name": "RawFrame", "namespace": "market", "fields": []})
        )
    with pytest.raises(IncompatibleSchema, match=f"{subject}.*received_ns"):
        provision(parts_settings, venue, DATA, lambda _: None, threading.Event())


@pytest.mark.integration
@pytest.mark.parametrize(("old", "new"), [(a_decimal(12), a_decimal(8)), ("bytes", "string")])
def test_a_change_that_would_be_read_wrongly_is_refused(registry: str, old: object, new: object) -> None:
    subject = f"{uuid.uuid4().hex}-value"
    with Registry(registry) as client:
        client.register(subject, a_record(old))

        with pytest.raises(IncompatibleSchema, match="field a was bytes"):
            client.register(subject, a_record(new))


def test_provision_says_what_it_waits_for_until_it_is_stopped() -> None:
    port, stop, said = free_port(), threading.Event(), list[str]()

    def report(text: str) -> None:
        said.append(text)
        stop.set()

    settings = Settings(ports=Ports(kafka=port))
    with pytest.raises(Stopped):
        provision(settings, a_fed_venue(), DATA, report, stop)
    assert said[0].startswith(f"waiting for Kafka at 127.0.0.1:{port}: ")


@pytest.mark.parametrize(
    ("old", "new", "forbidden"),
    [
        ("long", "long", False),
        ("int", "long", False),
        ("bytes", "string", True),
        (["null", "bytes"], ["null", "string"], True),
        ("bytes", ["null", "bytes"], False),
        (a_decimal(8), a_decimal(8), False),
        (a_decimal(8), a_decimal(9), True),
        (a_decimal(8), "bytes", True),
        ({"type": "array", "items": a_decimal(8)}, {"type": "array", "items": a_decimal(9)}, True),
        ({"type": "map", "values": "string"}, {"type": "map", "values": "bytes"}, True),
        (json.loads(a_record("bytes")), json.loads(a_record("string")), True),
    ],
)
def test_forbidden_change_sees_what_registries_let_pass(old: object, new: object, forbidden: bool) -> None:
    assert (forbidden_change(a_record(old), a_record(new)) is not None) == forbidden
