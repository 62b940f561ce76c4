"""The console that commands print to: in colour on a terminal, plain and wide in a pipe or a log."""

from typing import Final

from rich.console import Console

_PIPE_WIDTH: Final = 200


def open_console() -> Console:
    """Return a console that prints text as it is: it reads no markup, and colours no numbers."""
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = _PIPE_WIDTH
    return console
