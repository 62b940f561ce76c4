"""Whether a drain is really alive: judged by its beat and its process, not by what Dagster last heard."""

import sqlite3
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

from k2_assets.drain.beat import STOPPED, WAITING, Beat, read_beat
from k2_assets.drain.run_processes import RunProcess
from k2_assets.drain.sole import holder
from k2_core import clock
from k2_core.logs import logger
from k2_core.settings import Drain

log = logger(__name__)

_MISSED_BEATS: Final = 2  # of a process that was stopped by a signal: it cannot beat, and will do nothing else either


class Verdict(Enum):
    """What its beat and its process say of a drain."""

    ALIVE = "alive"
    DEAD = "dead"
    HUNG = "hung"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Judgement:
    """A verdict with its reason, for a person."""

    verdict: Verdict
    reason: str


@dataclass(frozen=True)
class Started:
    """A run of the drain that Dagster calls STARTED: when that was (seconds since 1970), and its process if known."""

    run_id: str
    since_s: float
    process: RunProcess | None


def judge(beat: Beat | None, run: Started, settings: Drain) -> Judgement:
    """Judge a STARTED run by the last sign of life of its drain; None if there never was one.

    A drain that works and was stopped by a signal is gone by then: see :func:`end_if_stopped`.
    """
    if beat is None or beat.run_id != run.run_id:
        return _judge_silent_start(run, settings)
    now = _now_s()
    silent_s, idle_s = now - beat.beat_at, now - beat.progress_at
    if silent_s > settings.dead_after_s and not beat.process_lives():
        return Judgement(Verdict.DEAD, f"no beat for {silent_s:.0f} s, and process {beat.pid} is gone")
    if silent_s > settings.hung_after_s:
        return Judgement(Verdict.HUNG, f"no beat for {silent_s:.0f} s, though process {beat.pid} is there")
    if beat.phase != WAITING and idle_s > settings.hung_after_s:
        return Judgement(Verdict.HUNG, f"no progress for {idle_s:.0f} s while {beat.phase}")
    return Judgement(Verdict.ALIVE, beat.phase)


def judge_from_store(store: Path, run: Started, settings: Drain) -> Judgement:
    """Judge a run by the beat in ``store``; a store that cannot be read means unknown, not dead."""
    try:
        return judge(read_beat(store, settings.name), run, settings)
    except sqlite3.Error as error:
        return Judgement(Verdict.UNKNOWN, f"the beat cannot be read: {error}")


def end_if_stopped(store: Path, lock: Path, settings: Drain) -> None:
    """Kill the drain that ``lock`` names if a signal has stopped its process for longer than some beats.

    It may hold a lock on a database: for a moment of each event, a process that writes one keeps all others from even
    reading it. So nothing that Dagster keeps is asked before this.
    """
    process = holder(lock)
    if process is None or not process.is_stopped():
        return
    try:
        beat = read_beat(store, settings.name)
    except sqlite3.Error:
        beat = None  # for seconds: what it holds is this very store
    if beat is None or _now_s() - beat.beat_at > _MISSED_BEATS * settings.beat_interval_s:
        log.warning("a drain that a signal has stopped is killed", pid=process.pid)
        process.end()


def leftover(store: Path, drain: str) -> RunProcess | None:
    """Return the process that still drains although no run of the drain is under way; None when there is none.

    As when its run was declared over from outside: canceled, or beyond its time.
    """
    try:
        beat = read_beat(store, drain)
    except sqlite3.Error:
        return None
    if beat is None or beat.phase == STOPPED or not beat.process_lives():
        return None
    return process_of_beat(beat)


def process_of_beat(beat: Beat) -> RunProcess:
    """Return the process that beats."""
    return RunProcess(beat.pid, beat.process_started)


def _judge_silent_start(run: Started, settings: Drain) -> Judgement:
    waited_s = _now_s() - run.since_s
    lives = run.process is not None and run.process.found() is not None
    if waited_s > settings.dead_after_s and not lives:
        return Judgement(Verdict.DEAD, f"no beat in the {waited_s:.0f} s since its start, its process is gone")
    if waited_s > _MISSED_BEATS * settings.beat_interval_s and run.process and run.process.is_stopped():
        return Judgement(Verdict.HUNG, f"no beat in the {waited_s:.0f} s since its start, its process is stopped")
    if waited_s > settings.hung_after_s:
        return Judgement(Verdict.HUNG, f"no beat in the {waited_s:.0f} s since its start")
    return Judgement(Verdict.ALIVE, "it is starting")


def _now_s() -> float:
    return clock.now_ns() / clock.NS_PER_SECOND
