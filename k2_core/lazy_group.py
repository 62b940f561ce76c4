"""A group of commands for a shell: each is imported when it is called, and an error of K2 is one sentence.

The packages with commands depend on click; nothing else imports this module.
"""

import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click

from k2_core.errors import K2Error


class LazyGroup(click.Group):
    """A group whose subcommands are imported when they are called, by click's documented pattern.

    Args:
        commands_in: name -> (``module:attribute`` of the command, its line in the group's help).
        more: what click's own group takes; ``name`` begins the sentence of an error.
    """

    def __init__(self, *, commands_in: Mapping[str, tuple[str, str]], **more: Any) -> None:
        super().__init__(**more)
        self._commands_in = commands_in

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        """Return the names without importing anything."""
        return list(self._commands_in)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  # click's
        """Import the subcommand."""
        if cmd_name not in self._commands_in:
            return None
        module, name = self._commands_in[cmd_name][0].split(":")
        command: click.Command = getattr(import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  # click's
        """List the subcommands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_text) for name, (_, help_text) in self._commands_in.items()])

    def invoke(self, ctx: click.Context) -> Any:  # click's own return type
        """Turn an error of K2 into one sentence and exit status 1."""
        try:
            return super().invoke(ctx)
        except K2Error as error:
            click.echo(f"{self.name}: {error}", err=True)
            sys.exit(1)
