"""What a user needs to know once the platform runs."""

import shlex
import shutil
import sys
from pathlib import Path
from urllib.parse import quote

from k2_core.settings import Settings
from k2_core.venues import VENUES
from k2_stack import probes
from k2_stack.stack_state import StackState
from k2_stack.terminal import shown_key

_WIDTH = 78


def banner(settings: Settings, now: StackState, *, detached: bool = False) -> str:
    """Return the banner of a platform that runs: where to look, what to ask, how to stop."""
    api, feed = now.url("api"), now.part("feed")
    try:
        fed = probes.feed_symbols(settings.ports.feed_health)
    except (probes.NotYet, LookupError):
        fed = {venue: list(settings.feeds.of(venue).symbols) for venue in settings.feeds.venues}
    # A symbol that the feed has subscribed to, in the API's spelling.
    instruments = (VENUES[venue].instrument_of(symbol) for venue, symbols in fed.items() for symbol in symbols)
    symbol = next((each.symbol for each in instruments if each), "BTCUSDT")
    lines = [
        "─" * _WIDTH,
        f"K2 runs (source {now.source}, ready after {now.ready_after_s or 0:.0f} s)",
        "",
        f"  Dagster UI   {now.url('dagster-webserver')}",
        f"  API docs     {api}/docs",
        f"  API key      {shown_key(settings) or 'the one in K2_API__KEY'}",
        f"  candles      {curl(settings, api, symbol)}",
        "",
        f"  data         {settings.home}",
        f"  logs         {settings.home / 'logs'}, or: {_command(settings, 'logs PART')}",
        f"  state        {_command(settings, 'status')}",
        f"  stop         {'' if detached else 'Ctrl-C here, or: '}{_command(settings, 'down')}",
    ]
    if feed is not None and feed.trouble:  # it serves, but has no connection
        lines += ["", f"  ! The feed has no connection yet and keeps trying: {feed.message}"]
    lines.append("─" * _WIDTH)
    return "\n".join(lines)


def curl(settings: Settings, api: str, symbol: str) -> str:
    """Return a shell command that shows the newest candles of ``symbol``, in the API's spelling."""
    # The shell replaces the variable, so that a key of the user's own is in no log and in no scrollback.
    key = shown_key(settings) or "$K2_API__KEY"
    return f'curl -H "X-API-Key: {key}" "{api}/v1/ohlcv/1m?symbol={quote(symbol)}&limit=5"'


def _command(settings: Settings, arguments: str) -> str:
    """Return a shell command that works in the user's current folder."""
    # K2_HOME is needed when the default, .k2 in the current folder, is another home.
    home = "" if settings.home == Path(".k2").absolute() else f"K2_HOME={shlex.quote(str(settings.home))} "
    program = Path(sys.executable).with_name("k2")
    inside = program.is_relative_to(Path.cwd())
    name = "k2" if shutil.which("k2") else str(program.relative_to(Path.cwd()) if inside else program)
    return f"{home}{name} {arguments}"
