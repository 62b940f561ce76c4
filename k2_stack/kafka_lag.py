"""How many messages wait in Kafka for a drain, and for how long. Asks Kafka, and changes nothing."""

from typing import Final, NamedTuple

from confluent_kafka import Consumer, TopicPartition

from k2_assets.kafka import topic_bounds
from k2_assets.kafka.kafka_topic import NoTopic, admin_client, describe_topic
from k2_core import clock
from k2_core.offsets import Offsets

_LOOK_S: Final = 2.0
_POLL_S: Final = 0.1
_AT_ONCE: Final = 100


class Waiting(NamedTuple):
    """What a topic holds beyond the committed offsets; ``wrong`` reports offsets that lie outside Kafka's log.

    ``oldest_at_s`` is when Kafka got the oldest waiting message, seconds since 1970; None when none waits.
    """

    messages: int
    oldest_at_s: float | None
    wrong: tuple[str, ...]


def waiting(bootstrap_servers: str, committed: dict[str, Offsets]) -> dict[str, Waiting]:
    """Return what waits in each topic; one that is missing is left out.

    Args:
        bootstrap_servers: Kafka's address.
        committed: topic → what is committed of it.

    Raises:
        KafkaException, TopicError: Kafka does not answer.
    """
    admin, found, places = admin_client(bootstrap_servers), {}, []
    for name, vector in committed.items():
        try:
            topic = describe_topic(bootstrap_servers, name, admin)
            bounds = topic_bounds.ask(admin, topic)
        except NoTopic:
            continue
        # Outside: Kafka no longer has, or never had, the offset that is committed. That is an error, and no lag.
        outside = topic_bounds.outside(topic, vector, bounds)
        beyond = topic_bounds.waiting(topic, vector, bounds)
        messages = sum(count for _, count in beyond.values())
        found[name] = Waiting(messages, None, tuple(each.sentence() for each in outside.values()))
        places += [TopicPartition(name, partition, first) for partition, (first, _) in beyond.items()]
    oldest = _oldest(bootstrap_servers, places)
    return {name: each._replace(oldest_at_s=oldest.get(name)) for name, each in found.items()}


def _oldest(bootstrap_servers: str, places: list[TopicPartition]) -> dict[str, float]:
    """Read the first message at each place, and return when Kafka got the oldest of each topic."""
    found: dict[str, float] = {}
    if not places:
        return found
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": "k2-status",
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "fetch.wait.max.ms": 10,
            "max.partition.fetch.bytes": 1,  # Kafka sends one batch all the same
            "queued.min.messages": 1,
            "fetch.queue.backoff.ms": 1,
            "log_level": 0,
        }
    )
    try:
        # One message of each partition is enough: its partition is unassigned as soon as it has come.
        consumer.assign(places)
        left, deadline = {(place.topic, place.partition) for place in places}, clock.monotonic() + _LOOK_S
        while left and clock.monotonic() < deadline:
            for message in consumer.consume(_AT_ONCE, _POLL_S):
                topic, place = str(message.topic()), (message.topic(), message.partition())
                if place not in left:
                    continue
                left.discard(place)
                consumer.incremental_unassign([TopicPartition(topic, message.partition() or 0)])
                if message.error() is None:  # else the log was cut meanwhile; the next status reports it
                    at_s = message.timestamp()[1] / 1000
                    found[topic] = min(found.get(topic, at_s), at_s)
    finally:
        consumer.close()
    return found
