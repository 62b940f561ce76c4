"""Put together what ``k2 status`` says: the supervisor's state, and what the lake, Kafka and the processes say."""

import sqlite3
from typing import Any, Final

from confluent_kafka import KafkaException
from pyiceberg.exceptions import RESTError
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from sqlalchemy.exc import SQLAlchemyError

from k2_assets.drain import causes
from k2_assets.drain.beat import READING, STOPPED, WAITING, Beat, read_beat
from k2_core import clock, storage
from k2_core.catalog import open_catalog
from k2_core.home_format import require_known_home
from k2_core.settings import Settings
from k2_stack import banner, lake, processes, state
from k2_stack.state import PartState, StackState

_NUMBERS: Final = {"pid", "port", "MB", "restarts"}
_SAID: Final = "address and message"


def gather(settings: Settings) -> dict[str, Any]:
    """Return the status of a home: ready, source, api_key, home, parts, lag, tables, newest_candle, and message.

    Memory is in MB: for each part the PSS of all processes of its session, the drain's run counted on its own.
    ``message`` is there when something is wrong that is not one part's alone: a full disk, a log that Kafka has cut.
    """
    require_known_home(settings)
    now = state.read(settings)
    running = state.Lock(settings).holder() is not None
    parts = _parts(settings, now, running=running) if now else []
    serving = {part["name"]: part["url"] for part in parts if part["state"] == state.READY}
    found, wrong = _lake(settings, serving.get("broker"))
    wrong = [*(disk.sentence() for disk in storage.low_disks(settings)), *wrong]
    return {
        "ready": bool(now and running and now.ready)
        and not any(part["state"] == state.RESTARTING for part in _own(parts)),
        "source": now.source if now else None,
        "api_key": banner.api_key(settings),
        "home": str(settings.home),
        "parts": parts,
        **found,
        **({"message": "; ".join(dict.fromkeys(wrong))} if wrong else {}),
    }


def _own(parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leave out the drain: it is replaced every quarter of an hour."""
    return [part for part in parts if part["name"] != "drain"]


def _parts(settings: Settings, now: StackState, *, running: bool) -> list[dict[str, Any]]:
    drain = _drain(settings) if running else None
    parts = [
        _part(part, running=running, without=drain["pid"] if drain else None) for part in now.parts if not part.step
    ]
    return [*parts, drain] if drain else parts


def _part(part: PartState, *, running: bool, without: int | None) -> dict[str, Any]:
    left = part.identity if part.identity and processes.members(part.identity) else None
    said, message = part.state, part.message
    if not running:
        said, message = state.STOPPED, ""
        if left:
            said, message = "orphaned", "its supervisor is gone: k2 up takes over, k2 down ends it"
    elif part.own and not left and said in {state.READY, state.FAILING}:  # newer than what the supervisor could write
        said, message = state.RESTARTING, "it has ended, and is started again"
    return {
        "name": part.name,
        "state": said,
        "pid": part.pid if left else None,
        "port": part.port,
        "url": part.url,
        "rss_mb": processes.memory_mb(left, without) if left else 0.0,
        "restarts": part.restarts,
        "message": message,
    }


def _drain(settings: Settings) -> dict[str, Any] | None:
    """Read the drain's own heartbeat; None before the first."""
    name = settings.drain.name
    try:
        beat = read_beat(state.run_folder(settings) / f"{name}.db", name)
    except sqlite3.Error:
        return None
    if beat is None:
        return None
    if beat.phase == STOPPED or not beat.process_lives():
        return _ended(beat)
    troubled = bool(beat.detail) and beat.phase in {READING, WAITING}  # it says why it waits, or what it cannot read
    said = f"{beat.phase}{': ' if beat.detail else ''}{beat.detail}"
    silent_s = clock.now_ns() / clock.NS_PER_SECOND - beat.beat_at
    if silent_s > settings.drain.dead_after_s:
        troubled, said = (
            True,
            f"no sign of life for {silent_s:.0f} s, though its process is there; the last was: {said}",
        )
    return {
        "name": "drain",
        "state": state.FAILING if troubled else state.READY,
        "pid": beat.pid,
        "port": None,
        "url": None,
        "rss_mb": processes.process_memory_mb(beat.pid),
        "restarts": 0,
        "message": said,
    }


def _ended(beat: Beat) -> dict[str, Any]:
    """Return the drain between two runs; an error that ended the last one will most likely end the next one too."""
    failed = beat.phase == STOPPED and bool(beat.detail)
    why = (
        f"its run was ended by an error that the drain does not know, {beat.detail}" if failed else "its run has ended"
    )
    return {
        "name": "drain",
        "state": state.FAILING if failed else state.RESTARTING,
        "pid": None,
        "port": None,
        "url": None,
        "rss_mb": 0.0,
        "restarts": 0,
        "message": f"{why}; the sensor starts the next one",
    }


def _lake(settings: Settings, broker: str | None) -> tuple[dict[str, Any], list[str]]:
    found: dict[str, Any] = {"lag": {}, "tables": {}, "newest_candle": None}
    if settings.catalog.uri is None and not (settings.home / "catalog.db").exists():
        return found, []
    namespace = settings.catalog.namespace
    try:
        catalog = open_catalog(settings)
        found["tables"] = lake.rows_by_table(catalog, namespace)
        found["newest_candle"] = lake.newest_candle(catalog, namespace)
        if broker:
            found["lag"], wrong = lake.lag_by_topic(catalog, namespace, broker)
            return found, wrong
    except (KafkaException, SQLAlchemyError, sqlite3.Error, RESTError, OSError) as error:
        return found, [causes.sentence(error, settings)]
    return found, []


def render(found: dict[str, Any]) -> RenderableType:
    """Return the status for people."""
    lines = [f"{'ready' if found['ready'] else 'not ready'} · source {found['source'] or '–'} · {found['home']}"]
    after = [
        *(f"lag     {topic}: {lag:,} messages" for topic, lag in found["lag"].items()),
        *(f"rows    {table}: {rows:,}" for table, rows in found["tables"].items()),
        f"newest  {_candle(found['newest_candle'])}",
        *([f"note    {found['message']}"] if "message" in found else []),
    ]
    return Group(Text("\n".join(lines), "bold"), _table(found["parts"]), Text("\n".join(after)))


def _table(parts: list[dict[str, Any]]) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False)
    for title in ("part", "state", "pid", "port", "MB", "restarts", _SAID):
        table.add_column(title, justify="right" if title in _NUMBERS else "left", no_wrap=title != _SAID)
    for part in parts:
        said = " · ".join(text for text in (part["url"], part["message"]) if text)
        numbers = (str(part["pid"] or ""), str(part["port"] or ""), f"{part['rss_mb']:.0f}", str(part["restarts"]))
        table.add_row(part["name"], part["state"], *numbers, Text(said))
    total = sum(part["rss_mb"] for part in parts)
    table.add_row("all", "", "", "", f"{total:.0f}", "", "")
    return table


def _candle(candle: dict[str, Any] | None) -> str:
    if candle is None:
        return "no candle yet"
    complete = "complete" if candle["is_complete"] else "not complete yet"
    return f"{candle['symbol']} {candle['window_start']} close {candle['close_price']} ({complete})"
