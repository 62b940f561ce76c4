"""Create the topics that a feed writes to, and register their schemas. Runs before the first frame; blocks."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple, TypeVar

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from k2_core import clock, topics
from k2_core.errors import IncompatibleSchema, RegistryError, TopicError
from k2_core.logs import logger
from k2_core.registry import Registry
from k2_core.settings import Settings
from k2_core.venues.routing import Data
from k2_core.venues.venue_protocol import Venue

_TIMEOUT_S: Final = 10.0
_RETRY_S: Final = 1.0
_LOOK_S: Final = 0.1
_log = logger(__name__)
_T = TypeVar("_T")
Report = Callable[[str], None]


class Provisioned(NamedTuple):
    """What a publisher must know of its topics."""

    trades_topic: str
    """Of trades, and of whatever carries neither trades nor quotes."""
    quotes_topic: str
    """The same one when the settings ask for trades only, or for quotes only."""
    partitions: int
    raw_schema_ids: dict[str, int]
    """Of each topic of raw frames."""
    event_schema_id: int

    @property
    def raw_topics(self) -> tuple[str, ...]:
        """The topics of raw frames, each once."""
        return tuple(self.raw_schema_ids)


class Stopped(Exception):  # not an error: the process is to end
    """The process was asked to end while it waited."""


def provision(
    settings: Settings, venue: Venue, data: Iterable[Data], report: Report, stop: threading.Event
) -> Provisioned:
    """Wait for Kafka and the registry, then create or check a venue's topics of ``data``, trades first, and schemas.

    ``report`` is called with a sentence about what is waited for.

    Raises:
        TopicError: a topic exists with other partitions, or Kafka refused to create or to correct it.
        IncompatibleSchema: a subject holds a schema that ours would break.
        Stopped: ``stop`` was set meanwhile.
    """
    names = [topics.raw_topic(venue.ASSET_CLASS, kind, venue.VENUE) for kind in data]
    admin = AdminClient({"bootstrap.servers": settings.bootstrap_servers, "log_level": 0})

    def ask_kafka() -> bool | None:
        try:
            return bool(admin.list_topics(timeout=_RETRY_S).brokers) or None
        except KafkaException as error:
            report(f"waiting for Kafka at {settings.bootstrap_servers}: {error.args[0].str()}")
            return None

    _until(ask_kafka, stop)
    for name in (*names, topics.FEED_EVENTS):
        ensure_topic(admin, name, settings)
    with Registry(settings.registry_url) as registry:
        raw_ids = {name: _register(registry, name, topics.raw_frame_schema(), report, stop) for name in names}
        event_id = _register(registry, topics.FEED_EVENTS, topics.feed_event_schema(), report, stop)
    return Provisioned(names[0], names[-1], settings.kafka.topic_partitions, raw_ids, event_id)


def ensure_topic(admin: AdminClient, topic: str, settings: Settings) -> None:
    """Create ``topic`` with K2's settings, or correct the settings of an existing one.

    Raises:
        TopicError: it has another number of partitions, so that symbols would change theirs, or Kafka refused.
    """
    wanted = topics.topic_settings(settings.kafka.retention_days)
    kafka = settings.kafka
    new = NewTopic(topic, kafka.topic_partitions, kafka.topic_replication, config=wanted)
    try:
        admin.create_topics([new], operation_timeout=_TIMEOUT_S)[topic].result(timeout=_TIMEOUT_S * 2)
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            msg = f"Kafka refuses to make the topic {topic}: {error.args[0].str()}."
            raise TopicError(msg) from None
    else:
        _log.info("topic made", topic=topic, partitions=kafka.topic_partitions, settings=wanted)
        return
    deadline, found = clock.monotonic() + _TIMEOUT_S, 0
    while not found and clock.monotonic() < deadline:  # for a moment after the creation Kafka shows no partitions
        found = len(admin.list_topics(topic, timeout=_TIMEOUT_S).topics[topic].partitions)
        if not found:
            time.sleep(_LOOK_S)
    if found != kafka.topic_partitions:
        msg = (
            f"topic {topic} has {found} partitions and the settings say {kafka.topic_partitions}: "
            f"set K2_KAFKA__TOPIC_PARTITIONS={found}, "
            "since a symbol that changed its partition would lose the order of its frames."
        )
        raise TopicError(msg)
    _mend(admin, topic, wanted)


def _mend(admin: AdminClient, topic: str, wanted: Mapping[str, str]) -> None:
    described = ConfigResource(ResourceType.TOPIC, topic)
    entries: dict[str, Any] = admin.describe_configs([described])[described].result(timeout=_TIMEOUT_S)
    found = {name: entry.value for name, entry in entries.items()}
    differing = {name: value for name, value in wanted.items() if found.get(name) != value}
    if not differing:
        return
    changes = [
        ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET) for name, value in differing.items()
    ]
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=changes)
    try:
        admin.incremental_alter_configs([resource])[resource].result(timeout=_TIMEOUT_S)
    except KafkaException as error:
        spelled = ", ".join(f"{name} is {found.get(name)} and must be {value}" for name, value in differing.items())
        msg = f"Kafka refuses to correct the settings of topic {topic} ({spelled}): {error.args[0].str()}."
        raise TopicError(msg) from None
    _log.warning("topic settings corrected", topic=topic, were={n: found.get(n) for n in differing}, now=differing)


def _register(registry: Registry, topic: str, schema: str, report: Report, stop: threading.Event) -> int:
    def ask() -> int | None:
        try:
            return registry.register(topics.subject(topic), schema)
        except IncompatibleSchema:
            raise
        except RegistryError as error:
            report(f"waiting for the schema registry: {error}")
            return None

    return _until(ask, stop)


def _until(ask: Callable[[], _T | None], stop: threading.Event) -> _T:
    while not stop.is_set():
        answer = ask()
        if answer is not None:
            return answer
        stop.wait(_RETRY_S)
    raise Stopped
