"""The ``k2`` command. A package is loaded only when one of its own subcommands is called."""

from typing import Final

import click

from k2_core.lazy_group import LazyGroup

_COMMANDS: Final = {
    "up": ("k2_stack.platform_commands:up", "Start the platform."),
    "down": ("k2_stack.platform_commands:down", "End the platform, and whatever an earlier one left behind."),
    "status": ("k2_stack.platform_commands:status", "Show the state of each part, and what the lake holds."),
    "logs": ("k2_stack.platform_commands:logs", "Show a part's log."),
    "demo": ("k2_stack.platform_commands:demo", "Show the platform at work on a simulated market, and break things."),
    "backfill": ("k2_stack.platform_commands:backfill", "Rebuild days of an asset, and what is derived from it."),
    "maintain": (
        "k2_assets.maintenance.maintain_command:maintain",
        "Thin history, join small files, remove files that no snapshot names.",
    ),
    "retention": (
        "k2_assets.maintenance.retention_command:retention",
        "Show which days of tables their retention removes, or remove them.",
    ),
    "tag": ("k2_stack.tag_commands:tag", "Name states of tables, which then stay: datasets for research."),
    "tables": ("k2_stack.table_commands:tables", "Show the lake's tables, and change those of an earlier K2."),
    "drain": ("k2_stack.drain_commands:drain", "Make the decisions that a drain leaves to people."),
    "rejected": ("k2_assets.silver.rejected_commands:rejected", "Judge again rows that a fault of K2 rejected."),
    "alerts": ("k2_assets.alerts.alerts_commands:alerts", "Show what is bad now, and test where messages of it go."),
    "feed": ("k2_feeds.feed_commands:feed", "Feed a venue's frames to Kafka, record them, or simulate a venue."),
    "keys": ("k2_api.key_commands:keys", "Create, list and revoke the keys of the REST API."),
    "api": ("k2_api.api_command:api", "Serve the REST API."),
}


@click.command("k2", cls=LazyGroup, commands_in=_COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="k2-lakehouse")
def main() -> None:
    """K2: a market-data lakehouse on one machine.

    Settings come from K2_… variables: K2_HOME is the folder that holds everything, K2_PORTS__API a port.
    """
