"""What is bad outside Dagster: kept runs, by their heartbeats, and the feed, by its /health."""

import http.client
import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote, urlsplit

from k2_assets.alerts.alert_conditions import Condition, Severity, moment, sentence
from k2_assets.kept_runs.heartbeat import READING, STOPPED, WAITING, read_beat
from k2_assets.kept_runs.kept_run import KeptRun, kept_runs
from k2_assets.kept_runs.liveness import Started, Verdict, judge
from k2_core.settings import Settings

_STARTS_S: Final = 90.0  # a first kept run may take so long from the start of the platform
_PATIENCE_S: Final = 60.0
_HEALTH_WAIT_S: Final = 2.0
_OF_TIME: Final = {"silence", "stale", "lag", "skew"}  # no sign of trouble when a recording is played
_WARNINGS: Final = {"stale", "lag", "skew", "refused", "alias", "sequence"}
_LISTED: Final = 3


def read_kept_runs(settings: Settings, launched_s: float, now_s: float) -> Iterator[Condition]:
    """Yield the kept runs that are dead or hang, or that wait for something; of an unreadable store nothing is known.

    Args:
        settings: of the platform.
        launched_s: when the process that launches runs began, in seconds since 1970.
        now_s: seconds since 1970.
    """
    for kept in kept_runs(settings):
        try:
            beat = read_beat(kept.store, kept.name)
        except sqlite3.Error:
            continue
        since_s = max(beat.beat_at if beat else 0.0, launched_s + _STARTS_S - kept.dead_after_s)
        if beat is None or beat.phase == STOPPED or not beat.process.is_running():
            if now_s - since_s > kept.dead_after_s:
                seen = f"No {kept.label} works; the last one did at {moment(beat.beat_at) if beat else 'no time'}."
                yield _of_kept_run(kept, Severity.ERROR, seen)
            continue
        judgement = judge(beat, Started(beat.run_id, beat.beat_at, beat.process), kept)
        if judgement.verdict is Verdict.HUNG:
            yield _of_kept_run(kept, Severity.ERROR, f"It hangs: {judgement.reason}.")
        elif beat.detail and beat.phase in {READING, WAITING}:  # the reason for a wait, or what it cannot do
            yield _of_kept_run(kept, Severity.WARNING, f"It cannot go on: {beat.detail}", _PATIENCE_S)


def works(kept: KeptRun) -> Callable[[str], bool]:
    """Return a function that tells, given the id of a run that failed, whether a later one works."""

    def later_one_works(failed: str) -> bool:
        try:
            beat = read_beat(kept.store, kept.name)
        except sqlite3.Error:
            return False
        return beat is not None and beat.run_id != failed and beat.phase != STOPPED and beat.process.is_running()

    return later_one_works


def _of_kept_run(kept: KeptRun, severity: Severity, seen: str, patience_s: float = 0.0) -> Condition:
    return Condition(
        kind="kept_run",
        subject=kept.label,
        severity=severity,
        seen=sentence(seen),
        link=f"/locations/k2/jobs/{quote(kept.job)}",
        patience_s=patience_s,
    )


def read_feed(settings: Settings) -> Iterator[Condition]:
    """Yield what is bad of the feed: that it does not answer, a venue without a connection, states that it reports."""
    alerts, patience_s = settings.alerts, settings.alerts.feed_after_s
    url = alerts.feed_url or f"http://127.0.0.1:{settings.ports.feed_health}/health"

    def bad(venue: str, name: str, severity: Severity, seen: str) -> Condition:
        return Condition("feed", venue, severity, sentence(seen), name=name, link=url, patience_s=patience_s)

    try:
        health = _health(url)
    except (OSError, http.client.HTTPException, ValueError) as error:
        yield bad("", "no answer", Severity.ERROR, f"{url} does not answer as a feed does: {error or type(error)}")
        return
    recorded = settings.feeds.source.partition(" ")[0] == "recording"
    for venue, state in health.get("venues", {}).items():
        if not state.get("connected"):
            yield bad(venue, "not connected", Severity.ERROR, str(state.get("message", "")))
        # A single quiet symbol may be an illiquid one, so only a whole channel's silence counts.
        silent = [text for each in state.get("connections", []) for text in each.get("silent", {}).values()]
        for name, texts in {**state.get("states", {}), "silence": silent}.items():
            if texts and not (recorded and name in _OF_TIME):
                more = f"; and {len(texts) - _LISTED} more" if len(texts) > _LISTED else ""
                severity = Severity.WARNING if name in _WARNINGS else Severity.ERROR
                yield bad(venue, name, severity, "; ".join(texts[:_LISTED]) + more)


def _health(url: str) -> Mapping[str, Any]:
    """Ask a feed how it is.

    Raises:
        OSError, http.client.HTTPException, ValueError: it does not answer, or not with a map as JSON.
    """
    where = urlsplit(url)
    connection = http.client.HTTPConnection(where.hostname or "", where.port or 80, timeout=_HEALTH_WAIT_S)
    try:
        connection.request("GET", where.path or "/")
        health = json.loads(connection.getresponse().read())
    finally:
        connection.close()
    if not isinstance(health, dict):
        msg = "it is no JSON map"
        raise ValueError(msg)  # noqa: TRY004  # what was answered is wrong, not what was called
    return health
