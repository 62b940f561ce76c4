"""Show a status to people: in colour on a terminal, plain in a pipe."""

import json
from contextlib import ExitStack
from typing import Final, Self

import click
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from k2_stack import stack_state
from k2_stack.status import Status
from k2_stack.terminal import open_console

_NUMBERS: Final = {"pid", "port", "MB", "restarts", "newest row", "lag", "oldest waits", "failed runs", "gaps"}
_TEXTS: Final = {"address and message", "failing checks"}
_STYLES: Final = {
    stack_state.READY: "green",
    stack_state.STOPPED: "dim",
    stack_state.FAILING: "bold red",
    "orphaned": "bold red",
}
_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86_400


class Screen:
    """Where one status after another is shown: in the same place on a terminal, one below the other in a pipe.

    As JSON, one status is indented, and those of a watch are one line each.
    """

    def __init__(self, *, as_json: bool, watch: bool) -> None:
        self._as_json, self._watch = as_json, watch
        self._console = open_console()
        self._live: Live | None = None
        self._opened = ExitStack()

    def __enter__(self) -> Self:
        if self._watch and self._console.is_terminal and not self._as_json:
            self._live = self._opened.enter_context(Live(console=self._console, auto_refresh=False, screen=True))
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def show(self, found: Status) -> None:
        """Show the newest status."""
        if self._as_json:
            click.echo(json.dumps(found, indent=None if self._watch else 2))
        elif self._live:
            self._live.update(render(found), refresh=True)
        else:
            self._console.print(render(found))


def render(found: Status) -> RenderableType:
    """Return the status for people."""
    candle = found["newest_candle"]
    newest = "no candle yet"
    if candle is not None:
        complete = "complete" if candle["is_complete"] else "not complete yet"
        newest = f"{candle['symbol']} {candle['window_start']} close {candle['close_price']} ({complete})"
    lines = [
        *(f"lag     {topic}: {lag:,} messages" for topic, lag in found["lag"].items()),
        *(f"rows    {table}: {rows:,}" for table, rows in found["tables"].items()),
        f"newest  {newest}",
        f"alerts  {found['alerts']['state']}: {found['alerts']['message']}",
    ]
    warnings = Text("\n".join(f"warning {sentence}" for sentence in found["warnings"]), "yellow")
    parts = _table("part", "state", "pid", "port", "MB", "restarts", "address and message")
    for part in found["parts"]:
        text = " · ".join(each for each in (part["url"], part["message"]) if each)
        numbers = (str(part["pid"] or ""), str(part["port"] or ""), f"{part['rss_mb']:.0f}", str(part["restarts"]))
        shown = Text(part["state"], _STYLES.get(part["state"], "yellow"))
        parts.add_row(part["name"], shown, *numbers, Text(text))
    parts.add_row("all", "", "", "", f"{sum(part['rss_mb'] for part in found['parts']):.0f}", "", "")
    layers = _table("layer", "newest row", "lag", "oldest waits", "failed runs", "gaps", "failing checks")
    for name, layer in found["layers"].items():
        lag = "?" if layer["lag"] is None else f"{layer['lag']:,}"
        runs, gaps = (
            Text(f"{count:,}", "yellow" if count else "") for count in (layer["failed_runs"], layer["open_gaps"])
        )
        waits = Text(_span(layer["oldest_waiting_s"]), "yellow" if layer["behind"] else "")
        checks = Text(", ".join(layer["failing_checks"]), "yellow")
        layers.add_row(name, _span(layer["age_s"]), lag, waits, runs, gaps, checks)
    tables: tuple[RenderableType, ...] = (parts, Text(), layers, Text())
    return Group(_headline(found), *tables, Text("\n".join(lines)), *([warnings] if found["warnings"] else []))


def _headline(found: Status) -> Text:
    count, parts = len(found["warnings"]), found["parts"]
    if found["ready"]:
        state, style = "ready", "bold green"
        if count:
            state, style = f"ready, with {count} warning{'s' if count > 1 else ''}", "bold yellow"
    else:
        away = [f"{part['name']} is {part['state']}" for part in parts if part["state"] != stack_state.READY]
        why = ", ".join(away) or "it is starting"
        if all(part["state"] == stack_state.STOPPED for part in parts):
            why = "nothing runs here, `k2 up` starts it"
        state, style = f"not ready: {why}", "bold red"
    return Text(f"{state} · source {found['source'] or '–'} · {found['home']}", style)


def _table(*titles: str) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False)
    for title in titles:
        table.add_column(title, justify="right" if title in _NUMBERS else "left", no_wrap=title not in _TEXTS)
    return table


def _span(seconds: float | None) -> str:
    """Return a span of time in the largest unit of which it holds two."""
    if seconds is None:
        return "–"
    for unit, length in (("d", _DAY_S), ("h", _HOUR_S), ("min", _MINUTE_S)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
