"""The commands ``k2 drain …``: the decisions that a drain leaves to people."""

import click


@click.group()
def drain() -> None:
    """Make the decisions that a drain leaves to people."""


@drain.command("accept-loss")
@click.argument("topic")
@click.argument("partition", type=click.IntRange(0))
@click.option("--yes", is_flag=True, help="do not ask")
def accept_loss(topic: str, partition: int, yes: bool) -> None:
    """Skip messages of TOPIC's PARTITION that Kafka has deleted before a drain had read them.

    Shows what is lost, and asks first. Records the lost range in the feed events; a running drain then goes on by
    itself within seconds. Refuses while Kafka still has the next message.

    \b
    Example:
      k2 drain accept-loss market.crypto.trades.binance.raw 2
    """  # noqa: D301  # \b is click's mark for a paragraph that stays as it is
    from k2_assets.drain.accept_loss import accept, find_loss
    from k2_core.lake.catalog import open_catalog, require_lake
    from k2_core.settings import load_settings
    from k2_core.topics import FEED_EVENTS
    from k2_core.venues import VENUES
    from k2_feeds.kafka.loss_events import publish_accepted_loss
    from k2_stack import stack_state

    settings = stack_state.bound(load_settings())
    require_lake(settings)
    catalog = open_catalog(settings)
    loss = find_loss(settings, catalog, VENUES.values(), topic, partition)
    where = f"offsets {loss.first} to {loss.end - 1} of {topic} partition {partition}"
    click.echo(f"{loss.messages:,} messages are lost: {where}. Kafka has deleted them, and the lake never had them.")
    if not yes:
        click.confirm("Go on without them?", abort=True)
    publish_accepted_loss(settings, loss.venue, loss.details())  # before moving on, so that every loss has its record
    moved = accept(settings, catalog, loss)
    click.echo(f"Recorded in {FEED_EVENTS}; moved on: {', '.join(moved)}. A drain that runs goes on within seconds.")
