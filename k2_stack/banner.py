"""What a user needs to know once the platform runs."""

from pathlib import Path

from k2_core.settings import DEVELOPMENT_API_KEY, Settings
from k2_stack import probes
from k2_stack.state import StackState

_WIDTH = 78


def banner(settings: Settings, now: StackState, *, detached: bool = False) -> str:
    """Return the banner of a platform that runs: where to look, what to ask, how to stop."""
    api = _url(now, "api")
    lines = [
        "─" * _WIDTH,
        f"K2 runs (source {now.source}, ready after {now.elapsed_s:.0f} s)",
        "",
        f"  Dagster UI   {_url(now, 'dagster-webserver')}",
        f"  API docs     {api}/docs",
        f"  API key      {api_key(settings) or 'the one in K2_API__KEY'}",
        f"  candles      {curl(settings, api, _symbol(settings))}",
        "",
        f"  data         {settings.home}",
        f"  logs         {settings.home / 'logs'}, or: k2 logs PART",
        f"  state        k2 status{_home_hint(settings)}",
        f"  stop         {'' if detached else 'Ctrl-C here, or: '}k2 down{_home_hint(settings)}",
        *_troubles(now),
        "─" * _WIDTH,
    ]
    return "\n".join(lines)


def api_key(settings: Settings) -> str | None:
    """Return the key when it is the known one of development; a key of your own is never printed."""
    key = settings.api.key.get_secret_value()
    return key if key == DEVELOPMENT_API_KEY else None


def curl(settings: Settings, api: str, symbol: str) -> str:
    """Return one line for a shell that shows the newest candles."""
    key = api_key(settings) or "$K2_API__KEY"
    return f'curl -H "X-API-Key: {key}" "{api}/v1/ohlcv/1m?symbol={symbol}&limit=5"'


def trouble(now: StackState) -> str | None:
    """Return what is wrong with the source and what to do, when a part that serves says so."""
    feed = now.part("feed")
    if feed is None or not feed.trouble:
        return None
    hint = " For data without the venue: k2 up --source simulator" if now.source == "live" else ""
    return f"The feed has no connection and keeps trying: {feed.message.rstrip('.')}.{hint}"


def _troubles(now: StackState) -> list[str]:
    said = trouble(now)
    return ["", f"  ! {said}"] if said else []


def _url(now: StackState, name: str) -> str:
    part = now.part(name)
    return (part.url if part else None) or ""


def _symbol(settings: Settings) -> str:
    """Return a symbol that the feed really asks for."""
    try:
        return probes.feed_symbols(settings.ports.feed_health)[0]
    except (probes.NotYet, LookupError):
        return settings.feeds.binance.symbols[0]


def _home_hint(settings: Settings) -> str:
    """Say how to find this home again when it is not the one that a bare command takes."""
    return "" if settings.home == Path(".k2").absolute() else f"   (with K2_HOME={settings.home})"
