"""Topics that somebody deletes under a feed, on a real broker."""

import uuid
from collections.abc import Callable

import pytest
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from k2_core import topics
from k2_core.errors import TopicError
from k2_core.settings import Kafka, Settings
from k2_feeds.kafka import kept_topics
from k2_feeds.kafka.kept_topics import KeptTopics
from k2_feeds.kafka.provision import ensure_topic
from tests.reliability.waiting import wait_until

pytestmark = pytest.mark.integration


@pytest.fixture
def admin(broker: str) -> AdminClient:
    return AdminClient({"bootstrap.servers": broker})


@pytest.fixture
def settings(broker: str) -> Settings:
    return Settings(kafka=Kafka(bootstrap_servers=broker))


@pytest.fixture
def name(admin: AdminClient, settings: Settings) -> str:
    name = topics.raw_topic("crypto", "trades", f"venue_{uuid.uuid4().hex[:8]}")
    ensure_topic(admin, name, settings)
    return name


def partitions(admin: AdminClient, name: str) -> int:
    found = admin.list_topics(timeout=10).topics.get(name)
    return len(found.partitions) if found else 0


def delete(admin: AdminClient, name: str) -> None:
    admin.delete_topics([name])[name].result(timeout=30)
    wait_until(lambda: not partitions(admin, name), lambda: "it is still there")


def test_a_deleted_topic_is_said_and_made_again_after_some_looks(
    admin: AdminClient, settings: Settings, name: str
) -> None:
    kept = KeptTopics(settings, (name,))
    kept.look()
    assert kept.missing == ""
    delete(admin, name)

    kept.look()
    assert kept.missing == f"{name} is not in Kafka: the feed makes it again within seconds"
    assert not partitions(admin, name)  # whoever deleted it may make it again
    for _ in range(kept_topics._LOOKS_BEFORE_MAKING):
        kept.look()

    assert partitions(admin, name) == settings.kafka.topic_partitions
    wait_until(lambda: looked(kept) == "", lambda: kept.missing)


def test_a_topic_that_another_made_again_gets_our_settings(admin: AdminClient, settings: Settings, name: str) -> None:
    kept = KeptTopics(settings, (name,))
    kept.look()
    delete(admin, name)
    admin.create_topics([NewTopic(name, settings.kafka.topic_partitions)])[name].result(timeout=30)

    kind = "message.timestamp.type"  # Kafka takes a moment to show it
    wait_until(lambda: not looked(kept) and config_of(admin, name)[kind] == "LogAppendTime", lambda: kept.missing)


def test_a_topic_that_another_made_with_other_partitions_is_an_error(
    admin: AdminClient, settings: Settings, name: str
) -> None:
    kept = KeptTopics(settings, (name,))
    kept.look()
    delete(admin, name)
    admin.create_topics([NewTopic(name, 1)])[name].result(timeout=30)

    with pytest.raises(TopicError, match="K2_KAFKA__TOPIC_PARTITIONS=1"):
        wait_until(lambda: looked(kept) == "" and False, lambda: kept.missing)


def test_nothing_is_said_while_kafka_is_away(free_ports: Callable[[], object], settings: Settings) -> None:
    away = Settings(kafka=Kafka(bootstrap_servers=f"127.0.0.1:{free_ports().kafka}"))  # type: ignore[attr-defined]
    kept = KeptTopics(away, ("market.feed.events",))

    kept.look()

    assert kept.missing == ""


def looked(kept: KeptTopics) -> str:
    kept.look()
    return kept.missing


def config_of(admin: AdminClient, name: str) -> dict[str, str | None]:
    resource = ConfigResource(ResourceType.TOPIC, name)
    return {key: entry.value for key, entry in admin.describe_configs([resource])[resource].result(timeout=30).items()}
