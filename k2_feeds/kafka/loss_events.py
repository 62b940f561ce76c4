"""Record in the feed events that a person accepted a loss. Runs in a command, not in a feed; blocks."""

from typing import Final

from k2_core import clock, topics
from k2_core.errors import TopicError
from k2_core.registry import Registry
from k2_core.settings import Settings
from k2_feeds.kafka.feed_events import EventEncoder, FeedEvent
from k2_feeds.kafka.partitioner import partition_of
from k2_feeds.kafka.publisher import Publisher

_WITHIN_S: Final = 30.0


def publish_accepted_loss(settings: Settings, venue: str, details: dict[str, str]) -> None:
    """Publish the event and wait until Kafka has acknowledged it.

    Raises:
        TopicError: Kafka did not take it in time.
        RegistryError: the registry did not give the schema's id.
    """
    with Registry(settings.registry_url) as registry:
        schema_id = registry.register(topics.subject(topics.FEED_EVENTS), topics.feed_event_schema())
    event = FeedEvent(clock.now_ns(), venue, "loss_accepted", "", "", details)
    publisher = Publisher(settings.bootstrap_servers)
    place = publisher.place(topics.FEED_EVENTS, partition_of(venue, settings.kafka.topic_partitions))
    publisher.keep(place, venue.encode(), EventEncoder(schema_id).encode(event))
    if publisher.flush(_WITHIN_S) or publisher.failed:
        said = publisher.trouble or "no answer"
        raise TopicError(
            f"Kafka at {settings.bootstrap_servers} did not take the record of the loss ({said}): try again"
        )
