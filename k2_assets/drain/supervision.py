"""Which runs are really alive: judged by beats and processes, not by what Dagster last heard."""

import contextlib
import os
import signal
import sqlite3
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

import dagster as dg
import psutil

from k2_assets.drain.beat import WAITING, Beat, read_beat
from k2_core import clock
from k2_core.settings import Drain

PROCESS_TAG: Final = "k2/process"
UNFINISHED: Final = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


class Verdict(Enum):
    """What a drain's beat says of it."""

    ALIVE = "alive"
    DEAD = "dead"
    HUNG = "hung"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Judgement:
    """A verdict with its reason, for a person."""

    verdict: Verdict
    reason: str


def judge(beat: Beat | None, run: dg.DagsterRun, started_s: float, settings: Drain) -> Judgement:
    """Judge a STARTED drain run.

    Args:
        beat: last sign of life of the drain; None if there never was one.
        run: the run to judge.
        started_s: when it started, seconds since 1970.
        settings: how long to wait before a verdict.
    """
    now = clock.now_ns() / clock.NS_PER_SECOND
    if beat is None or beat.run_id != run.run_id:
        if now - started_s > settings.dead_after_s and not _lives(run):
            return Judgement(
                Verdict.DEAD, f"no beat in the {now - started_s:.0f} s since its start, its process is gone"
            )
        return Judgement(Verdict.ALIVE, "it is starting")
    silent_s = now - beat.beat_at
    if silent_s > settings.dead_after_s and not beat.process_lives():
        return Judgement(Verdict.DEAD, f"no beat for {silent_s:.0f} s, and process {beat.pid} is gone")
    idle_s = now - beat.progress_at
    if beat.phase != WAITING and idle_s > settings.hung_after_s:
        return Judgement(Verdict.HUNG, f"no progress for {idle_s:.0f} s while {beat.phase}")
    return Judgement(Verdict.ALIVE, beat.phase)


def judge_from_store(store: Path, run: dg.DagsterRun, started_s: float, settings: Drain) -> Judgement:
    """Judge a run by the beat in ``store``; a store that cannot be read means unknown, not dead."""
    try:
        beat = read_beat(store, settings.name)
    except sqlite3.Error as error:
        return Judgement(Verdict.UNKNOWN, f"the beat cannot be read: {error}")
    judgement = judge(beat, run, started_s, settings)
    if judgement.verdict is Verdict.HUNG and beat is not None and beat.process_lives():
        with contextlib.suppress(ProcessLookupError):
            os.kill(beat.pid, signal.SIGKILL)
    return judgement


def record_process(instance: dg.DagsterInstance, run_id: str) -> None:
    """Write this process into the run's tags, so that a run whose process is gone can be told."""
    process = psutil.Process()
    instance.add_run_tags(run_id, {PROCESS_TAG: f"{process.pid}:{process.create_time():.2f}"})


def fail_orphaned_runs(instance: dg.DagsterInstance) -> list[str]:
    """Fail every STARTED run whose recorded process is gone; return their ids.

    A run killed together with the code server otherwise stays STARTED and blocks its day for ever.
    """
    runs = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]))
    failed = [run for run in runs if PROCESS_TAG in run.tags and not _lives(run)]
    for run in failed:
        instance.report_run_failed(run, "Its process is gone.")
    return [run.run_id for run in failed]


def _lives(run: dg.DagsterRun) -> bool:
    recorded = run.tags.get(PROCESS_TAG)
    if recorded is None:
        return False
    pid, started = recorded.split(":")
    try:
        process = psutil.Process(int(pid))
        same = abs(process.create_time() - float(started)) < 1.0
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
