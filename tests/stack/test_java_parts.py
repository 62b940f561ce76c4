from confluent_kafka.admin import AdminClient, NewTopic

from tests.loopback import http


def test_broker_makes_no_topic_by_itself_when_one_is_asked_for(broker: str) -> None:
    admin = AdminClient({"bootstrap.servers": broker})

    assert admin.list_topics("nobody.made.this", timeout=10).topics["nobody.made.this"].error is not None


def test_broker_gives_a_topic_an_identity_when_it_is_made(broker: str) -> None:
    admin = AdminClient({"bootstrap.servers": broker})

    admin.create_topics([NewTopic("stack.made", 2)])["stack.made"].result(timeout=30)

    assert len(admin.list_topics("stack.made", timeout=10).topics["stack.made"].partitions) == 2


def test_registry_refuses_an_incompatible_schema_when_it_serves(registry: str) -> None:
    headers = {"Content-Type": "application/vnd.schemaregistry.v1+json"}
    before = {"schema": '{"type":"record","name":"R","fields":[{"name":"a","type":"long"}]}'}
    after = {"schema": '{"type":"record","name":"R","fields":[{"name":"b","type":"string"}]}'}

    first = http.post(f"{registry}/subjects/stack-value/versions", json=before, headers=headers)
    second = http.post(f"{registry}/subjects/stack-value/versions", json=after, headers=headers)

    assert (first.status_code, second.status_code) == (200, 409)
