"""The ``k2-query`` command: read-only queries of the lake from a shell."""

from typing import Final

import click

from k2_core.lazy_group import LazyGroup

_COMMANDS: Final = {
    "rejected": ("k2_api.shell.rejected_command:rejected", "Show what could not become a row of silver, and why."),
}


@click.command(
    "k2-query", cls=LazyGroup, commands_in=_COMMANDS, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(package_name="k2-lakehouse")
def main() -> None:
    """Query K2's lake. K2_HOME is the folder that holds it."""
