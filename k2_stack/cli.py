"""The ``k2`` command. A room is loaded only when one of its own subcommands is called."""

import sys
from importlib import import_module
from typing import Any, Final

import click

from k2_core.errors import K2Error

_ROOMS: Final = {
    "up": ("k2_stack.commands:up", "Start the platform."),
    "down": ("k2_stack.commands:down", "End the platform, and whatever an earlier one left."),
    "status": ("k2_stack.commands:status", "Say how each part is, and what the lake holds."),
    "logs": ("k2_stack.commands:logs", "Show a part's log."),
    "demo": ("k2_stack.demo:demo", "Show the platform at work on a simulated market, and break things."),
    "backfill": ("k2_stack.backfill:backfill", "Make days of an asset anew, and what is derived from it."),
    "maintain": ("k2_assets.maintenance.cli:maintain", "Thin history, join small files, remove what nothing names."),
    "tables": ("k2_stack.table_commands:tables", "Show the lake's tables, and change those of an earlier K2."),
    "drain": ("k2_stack.drain_commands:drain", "Decide what a drain does not decide by itself."),
    "feed": ("k2_feeds.cli:feed", "Feed a venue's frames to Kafka, record them, or simulate a venue."),
    "api": ("k2_api.cli:api", "Serve the REST API."),
}


class LazyGroup(click.Group):
    """A group whose subcommands are imported when they are called, by click's documented pattern."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        """Return the names without importing anything."""
        return list(_ROOMS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  # click's
        """Import the subcommand."""
        if cmd_name not in _ROOMS:
            return None
        module, name = _ROOMS[cmd_name][0].split(":")
        command: click.Command = getattr(import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  # click's
        """List the subcommands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_text) for name, (_, help_text) in _ROOMS.items()])

    def invoke(self, ctx: click.Context) -> Any:  # click's own return type
        """Turn an error of K2 into one sentence and exit status 1."""
        try:
            return super().invoke(ctx)
        except K2Error as error:
            click.echo(f"k2: {error}", err=True)
            sys.exit(1)


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="k2-lakehouse")
def main() -> None:
    """K2: a market-data lakehouse on one machine.

    Settings come from K2_… variables: K2_HOME is the folder that holds everything, K2_PORTS__API a port.
    """
