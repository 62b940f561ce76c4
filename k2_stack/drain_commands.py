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
    from k2_core.settings import load_settings
    from k2_core.venues import VENUES
    from k2_stack import stack_state
    from k2_stack.lost_messages import step_over

    step_over(stack_state.bound(load_settings()), VENUES.values(), topic, partition, ask=not yes)
