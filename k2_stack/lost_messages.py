"""Messages that Kafka has deleted before a drain had read them: shown, recorded in the feed events, and skipped."""

from collections.abc import Iterable

import click

from k2_assets.drain.accept_loss import accept, find_loss
from k2_core.lake.catalog import open_catalog, require_lake
from k2_core.settings import Settings
from k2_core.topics import FEED_EVENTS
from k2_core.venues.venue_protocol import Venue
from k2_feeds.kafka.loss_events import publish_accepted_loss


def step_over(settings: Settings, venues: Iterable[Venue], topic: str, partition: int, *, ask: bool) -> None:
    """Show what a partition has lost, of a topic of these venues or of the feed events; record it, and move on.

    Raises:
        OffsetError: nothing is lost that could be accepted.
        TopicError: Kafka does not answer, or has no such topic.
        click.Abort: the person who was asked said no.
    """
    require_lake(settings)
    catalog = open_catalog(settings)
    loss = find_loss(settings, catalog, venues, topic, partition)
    where = f"offsets {loss.first} to {loss.end - 1} of {topic} partition {partition}"
    click.echo(f"{loss.messages:,} messages are lost: {where}. Kafka has deleted them, and the lake never had them.")
    if ask:
        click.confirm("Go on without them?", abort=True)
    publish_accepted_loss(settings, loss.venue, loss.details())  # before moving on, so that every loss has its record
    moved = accept(settings, catalog, loss)
    click.echo(f"Recorded in {FEED_EVENTS}; moved on: {', '.join(moved)}. A drain that runs goes on within seconds.")
