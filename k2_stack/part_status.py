"""How each part of a platform is, for ``k2 status``: from the supervisor's state, its processes, and heartbeats."""

import sqlite3
from typing import Final, TypedDict

from k2_assets.kept_runs.heartbeat import READING, STOPPED, WAITING, read_beat
from k2_assets.kept_runs.kept_run import KeptRun, kept_runs
from k2_core import clock
from k2_core.settings import Settings
from k2_stack import processes, stack_state
from k2_stack.stack_state import StackState

KEPT: Final = ("drain", "refine")


class PartStatus(TypedDict):
    """One part. Memory in MB is the PSS of all processes of its session; kept runs are counted on their own."""

    name: str
    state: str
    pid: int | None
    port: int | None
    url: str | None
    rss_mb: float
    restarts: int
    message: str


def part_statuses(settings: Settings, now: StackState, *, running: bool) -> list[PartStatus]:
    """Return the parts that the supervisor keeps, then the kept runs, which have no entry in its state."""
    kept = [status for each in kept_runs(settings) if (status := _kept(each, settings))] if running else []
    counted_apart = {each["pid"] for each in kept}
    left = processes.sessions(part.identity for part in now.parts if part.identity)
    found = []
    for part in now.parts:
        if part.step:
            continue
        # A part's memory is that of its whole session. Runs are descendants of Dagster's code server: kept runs among
        # them are listed by themselves, and not counted twice.
        own = left.get(part.identity, []) if part.identity else []
        # The supervisor's word on a part, corrected by what is seen of its processes, which is newer.
        state, message = part.state, part.message
        if not running and own:
            state, message = "orphaned", "its supervisor is gone: k2 up takes over, k2 down ends it"
        elif not running:
            state, message = stack_state.STOPPED, ""
        elif part.own and not own and part.state in {stack_state.READY, stack_state.FAILING}:
            state, message = stack_state.RESTARTING, "it has ended, and is started again"
        found.append(
            PartStatus(
                name=part.name,
                state=state,
                pid=part.pid if own else None,
                port=part.port,
                url=part.url,
                rss_mb=processes.memory_mb(each.pid for each in own if each.pid not in counted_apart),
                restarts=part.restarts,
                message=message,
            )
        )
    return [*found, *kept]


def _kept(kept: KeptRun, settings: Settings) -> PartStatus | None:
    """Return the status of a kept run from its own heartbeat; None before the first."""
    try:
        beat = read_beat(kept.store, kept.name)
    except sqlite3.Error:
        return None
    if beat is None:
        return None
    silent_s = clock.now_s() - beat.beat_at
    lives = beat.phase != STOPPED and beat.process.is_running()
    if lives:
        # A detail while it reads or waits gives the reason for the wait, or names what it cannot do.
        failing = bool(beat.detail) and beat.phase in {READING, WAITING}
        message = f"{beat.phase}{': ' if beat.detail else ''}{beat.detail}"
        if silent_s > kept.dead_after_s:
            failing = True
            message = f"no sign of life for {silent_s:.0f} s, though its process is there; the last was: {message}"
        state = stack_state.FAILING if failing else stack_state.READY
    else:  # between two runs; an error that ended one will most likely end the next too
        failed = beat.phase == STOPPED and bool(beat.detail)
        if failed:
            why = f"its run was ended by an error that the {kept.label} does not know, {beat.detail}"
        elif beat.phase == STOPPED:
            why = "its run has ended"
        else:
            why = f"its process {beat.pid} ended while {beat.phase} and left no message: it was killed, or crashed"
        late = silent_s > settings.supervisor.behind_after_s
        then = "the sensor starts the next one"
        if late:
            then = f"no other has begun for {silent_s:.0f} s: see `k2 logs {kept.label}` and `k2 logs dagster-daemon`"
        state = stack_state.FAILING if failed or late else stack_state.RESTARTING
        message = f"{why}; {then}"
    return {
        "name": kept.label,
        "state": state,
        "pid": beat.pid if lives else None,
        "port": None,
        "url": None,
        "rss_mb": processes.memory_mb([beat.pid]) if lives else 0.0,
        "restarts": 0,
        "message": message,
    }
