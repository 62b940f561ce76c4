"""The drain's sign of life: written whatever happens, read as unknown rather than dead."""

import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from k2_assets.kept_runs.heartbeat import WAITING, Beat, Heart, read_beat
from k2_assets.kept_runs.kept_run import KeptRun, kept_drain
from k2_assets.kept_runs.liveness import Started, Verdict, judge, judge_from_store
from k2_core import clock, process_identity
from k2_core.process_identity import ProcessIdentity
from k2_core.settings import Drain, Settings

KEPT = kept_drain(Settings(drain=Drain(dead_after_s=30, hung_after_s=300)))


def now_s() -> float:
    return clock.now_ns() / clock.NS_PER_SECOND


def a_beat(phase: str = "reading", *, beat_age_s: float = 0, progress_age_s: float = 0, run_id: str = "run") -> Beat:
    process = psutil.Process()
    beat_at, progress_at = now_s() - beat_age_s, now_s() - progress_age_s
    return Beat("main", process.pid, process.create_time(), run_id, phase, beat_at, progress_at, 0, "")


def verdict(beat: Beat | None, started_ago_s: float = 3600, process: ProcessIdentity | None = None) -> Verdict:
    return judge(beat, Started("run", now_s() - started_ago_s, process), KEPT).verdict


def test_a_drain_that_beats_is_alive() -> None:
    assert verdict(a_beat()) is Verdict.ALIVE
    assert verdict(a_beat(WAITING, progress_age_s=100_000)) is Verdict.ALIVE
    assert verdict(a_beat(progress_age_s=299)) is Verdict.ALIVE


def test_a_drain_that_makes_no_progress_hangs_unless_it_waits() -> None:
    assert verdict(a_beat("committing", progress_age_s=301)) is Verdict.HUNG
    assert verdict(a_beat("committing", progress_age_s=301, beat_age_s=100)) is Verdict.HUNG


def test_a_silent_drain_is_dead_only_when_its_process_is_gone() -> None:
    silent = a_beat(beat_age_s=31)
    assert verdict(silent) is Verdict.ALIVE
    assert verdict(replace(silent, pid=a_gone_pid())) is Verdict.DEAD
    assert verdict(replace(silent, process_started=silent.process_started - 60)) is Verdict.DEAD
    assert verdict(replace(silent, pid=a_gone_pid(), beat_at=now_s() - 29)) is Verdict.ALIVE


def test_a_zombie_is_no_living_process() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        started = psutil.Process(process.pid).create_time()
        while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        zombie = replace(a_beat(beat_age_s=31), pid=process.pid, process_started=started)

        assert not zombie.process.is_running()
        assert verdict(zombie) is Verdict.DEAD


def test_a_run_that_never_beat_has_time_to_start() -> None:
    assert verdict(None, started_ago_s=29) is Verdict.ALIVE
    assert verdict(None, started_ago_s=31) is Verdict.DEAD
    assert verdict(a_beat(run_id="the one before"), started_ago_s=31) is Verdict.DEAD
    own = process_identity.this_process()
    assert verdict(None, started_ago_s=299, process=own) is Verdict.ALIVE
    assert verdict(None, started_ago_s=301, process=own) is Verdict.HUNG


def test_a_run_that_has_handed_over_has_time_to_end(tmp_path: Path) -> None:
    kept = kept_drain(Settings(home=tmp_path, drain=Drain(dead_after_s=30, hung_after_s=300)))
    before = Started("the run before", now_s() - 3600, process_identity.this_process())

    assert judge_from_store(before, kept).verdict is Verdict.HUNG
    with Heart(kept, "its successor"):
        assert judge_from_store(before, kept).verdict is Verdict.ALIVE


def test_a_process_that_is_stopped_before_its_first_beat_hangs() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        process.send_signal(signal.SIGSTOP)
        while psutil.Process(process.pid).status() != psutil.STATUS_STOPPED:
            time.sleep(0.01)
        stopped = process_identity.noted(process.pid, now_s())

        assert verdict(None, started_ago_s=9, process=stopped) is Verdict.ALIVE
        assert verdict(None, started_ago_s=11, process=stopped) is Verdict.HUNG
        assert stopped.end()


def test_a_drain_that_is_there_and_no_longer_beats_hangs_even_in_a_quiet_market() -> None:
    assert verdict(a_beat(WAITING, beat_age_s=299)) is Verdict.ALIVE
    assert verdict(a_beat(WAITING, beat_age_s=301)) is Verdict.HUNG


def test_a_heart_beats_by_itself_and_says_the_phase(tmp_path: Path) -> None:
    kept = replace(KEPT, folder=tmp_path / "run", beat_interval_s=0.05)
    with Heart(kept, "run") as heart:
        heart.progress("committing", "bronze")
        first = beat_when(kept, lambda beat: beat.phase == "committing")
        later = beat_when(kept, lambda beat: beat.beat_at > first.beat_at)
        assert (later.progress_at, later.detail, later.run_id) == (first.progress_at, "bronze", "run")
        assert later.process.is_running()
    stopped = read_beat(kept.store, "main")
    assert stopped is not None
    assert stopped.phase == "stopped"
    assert read_beat(kept.store, "another") is None


def test_a_heart_says_which_error_ended_the_drain(tmp_path: Path) -> None:
    kept = replace(KEPT, folder=tmp_path)

    with pytest.raises(TypeError), Heart(kept, "run"):
        raise TypeError("expected bytes")

    stopped = read_beat(kept.store, "main")
    assert stopped is not None
    assert (stopped.phase, stopped.detail) == ("stopped", "TypeError: expected bytes")


def test_a_heart_goes_on_when_its_store_cannot_be_written_for_a_while(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.write_text("in the way")
    kept = replace(KEPT, folder=folder, beat_interval_s=0.05)
    with Heart(kept, "run"):
        time.sleep(0.3)
        folder.unlink()
        assert beat_when(kept, lambda beat: beat.process.is_running()).phase == "starting"


def test_a_store_that_was_never_written_has_no_beat_and_a_broken_one_says_so(tmp_path: Path) -> None:
    assert read_beat(tmp_path / "none.db", "main") is None
    (tmp_path / "broken.db").write_bytes(b"this is no database" * 100)

    with pytest.raises(sqlite3.Error):
        read_beat(tmp_path / "broken.db", "main")


def beat_when(kept: KeptRun, holds: Callable[[Beat], bool]) -> Beat:
    deadline = time.monotonic() + 30  # noqa: TID251
    while True:
        beat = read_beat(kept.store, "main")
        if beat is not None and holds(beat):
            return beat
        assert time.monotonic() < deadline, beat  # noqa: TID251
        time.sleep(0.01)


def a_gone_pid() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid
