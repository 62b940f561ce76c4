"""Whether a kept run is really alive: judged by its heartbeat and its process, not by what Dagster last heard."""

import sqlite3
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from k2_assets.kept_runs.heartbeat import STOPPED, WAITING, Beat, read_beat
from k2_assets.kept_runs.kept_run import KeptRun
from k2_assets.kept_runs.run_lease import leases_in
from k2_core import clock
from k2_core.logs import logger
from k2_core.process_identity import ProcessIdentity

log = logger(__name__)

_MISSED_BEATS: Final = 2  # after which a process that a signal has stopped is given up: it cannot do anything


class Verdict(Enum):
    """What follows from a run's heartbeat and process."""

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
    """A kept run that Dagster calls STARTED: when that was (seconds since 1970), and its process if known."""

    run_id: str
    since_s: float
    process: ProcessIdentity | None


def judge(beat: Beat | None, run: Started, kept: KeptRun) -> Judgement:
    """Judge a STARTED run by its last heartbeat; None if there never was one.

    :func:`end_if_stopped` has already killed a run that works and was stopped by a signal.
    """
    if beat is None or beat.run_id != run.run_id:
        return _judge_without_beat(run, kept)
    # Dead needs both: no beat, and no process. A process that is there is hung only after a far longer silence, or when
    # it beats without progress. A run that waits for messages makes none, and is well.
    now = clock.now_s()
    silent_s, idle_s = now - beat.beat_at, now - beat.progress_at
    if silent_s > kept.dead_after_s and not beat.process.is_running():
        return Judgement(Verdict.DEAD, f"no beat for {silent_s:.0f} s, and process {beat.pid} is gone")
    if silent_s > kept.hung_after_s:
        return Judgement(Verdict.HUNG, f"no beat for {silent_s:.0f} s, though process {beat.pid} is there")
    if beat.phase != WAITING and idle_s > kept.hung_after_s:
        return Judgement(Verdict.HUNG, f"no progress for {idle_s:.0f} s while {beat.phase}")
    return Judgement(Verdict.ALIVE, beat.phase)


def _judge_without_beat(run: Started, kept: KeptRun) -> Judgement:
    # Such a run has begun a moment ago, or is ending: its process and Dagster's time of its start decide.
    waited_s = clock.now_s() - run.since_s
    if waited_s > kept.dead_after_s and not (run.process and run.process.is_running()):
        return Judgement(Verdict.DEAD, f"no beat for {waited_s:.0f} s, its process is gone")
    if waited_s > _MISSED_BEATS * kept.beat_interval_s and run.process and run.process.is_stopped():
        return Judgement(Verdict.HUNG, f"no beat for {waited_s:.0f} s, its process is stopped")
    if waited_s > kept.hung_after_s:
        return Judgement(Verdict.HUNG, f"no beat for {waited_s:.0f} s")
    return Judgement(Verdict.ALIVE, "it starts or ends")


def judge_from_store(run: Started, kept: KeptRun) -> Judgement:
    """Judge a run, which works or waits, by the stored heartbeats; unknown, not dead, when they cannot be read."""
    try:
        beats = [read_beat(each.store, each.name) for each in (kept, kept.successor)]
    except sqlite3.Error as error:
        return Judgement(Verdict.UNKNOWN, f"the beat cannot be read: {error}")
    own = next((beat for beat in beats if beat and beat.run_id == run.run_id), None)
    if own is None and (working := beats[0]):
        # It may have written beats until the run that works now took over, and has a little left to do.
        run = replace(run, since_s=max(run.since_s, working.due_at - kept.work_s))
    return judge(own, run, kept)


def is_due(kept: KeptRun, run_id: str) -> bool:
    """Return whether the run works, and would hand over to a successor."""
    beat = _known_beat(kept)
    return beat is not None and beat.run_id == run_id and beat.phase != STOPPED and beat.due_at <= clock.now_s()


def successor_waits(kept: KeptRun) -> bool:
    """Return whether a successor is there and able to go on at once."""
    beat = _known_beat(kept.successor)
    fresh = beat is not None and clock.now_s() - beat.beat_at < _MISSED_BEATS * kept.beat_interval_s
    return beat is not None and fresh and beat.phase == WAITING and beat.process.is_running()


def end_if_stopped(kept: KeptRun) -> None:
    """Kill the run that holds a lease of ``kept`` if a signal has stopped its process for longer than some beats.

    A stopped process may hold the lock of a database, which then nobody can even read: one of Dagster's, the heartbeats
    or the leases. So a sensor calls this before it asks Dagster anything.
    """
    for each in (kept, kept.successor):
        try:
            holder = leases_in(each.folder).holder(each.name)
            process = holder.process if holder and holder.is_here else None
        except SQLAlchemyError as error:  # for seconds: what it holds may be the leases
            log.warning("the lease of a run cannot be read", run=each.name, error=str(error))
            known = _known_beat(each)
            process = known.process if known else None
        if process is None or not process.is_stopped():
            continue
        beat = _known_beat(each)  # None for seconds: what it holds may be this very store
        if beat is None or clock.now_s() - beat.beat_at > _MISSED_BEATS * kept.beat_interval_s:
            log.warning("a run that a signal has stopped is killed", run=each.name, pid=process.pid)
            process.end()


def leftover(kept: KeptRun) -> ProcessIdentity | None:
    """Return the process that still works although no run of ``kept`` is under way; None when there is none.

    This happens when its run was ended from outside: canceled, or beyond its longest time.
    """
    beat = _known_beat(kept)
    if beat is None or beat.phase == STOPPED or not beat.process.is_running():
        return None
    return beat.process


def _known_beat(kept: KeptRun) -> Beat | None:
    """Return the last heartbeat of a run, if there was one and it can be read."""
    try:
        return read_beat(kept.store, kept.name)
    except sqlite3.Error:
        return None
