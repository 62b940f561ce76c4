"""The console that commands print to, in colour on a terminal, plain and wide in a pipe or a log; and the key shown."""

from typing import Final

from rich.console import Console

from k2_core.settings import DEVELOPMENT_API_KEY, Settings

_PIPE_WIDTH: Final = 200


def open_console() -> Console:
    """Return a console that prints text as it is: it reads no markup, and colours no numbers."""
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = _PIPE_WIDTH
    return console


def shown_key(settings: Settings) -> str | None:
    """Return the development key; None for a key of the user's own, which is never shown."""
    key = settings.api.key.get_secret_value()
    return key if key == DEVELOPMENT_API_KEY else None
