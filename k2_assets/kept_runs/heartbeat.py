"""A kept run's heartbeat: one row in a small SQLite store of its own, written by a thread every few seconds."""

import sqlite3
import threading
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from k2_assets.kept_runs.kept_run import KeptRun
from k2_core import clock, process_identity
from k2_core.logs import logger
from k2_core.process_identity import ProcessIdentity

log = logger(__name__)

READING = "reading"
WAITING = "waiting"
STOPPED = "stopped"
_LONGEST = 500  # characters of an error
_COLUMNS = "name, pid, process_started, run_id, phase, beat_at, progress_at, due_at, detail"


@dataclass(frozen=True)
class Beat:
    """The last heartbeat of a kept run; times in seconds since 1970 (UTC). From ``due_at`` on it would hand over."""

    name: str
    pid: int
    process_started: float
    run_id: str
    phase: str
    beat_at: float
    progress_at: float
    due_at: float
    detail: str

    @property
    def process(self) -> ProcessIdentity:
        return ProcessIdentity(self.pid, self.process_started)


def read_beat(store: Path, name: str) -> Beat | None:
    """Return the last heartbeat of this name; None when there never was one.

    Raises:
        sqlite3.Error: the store cannot be read, which means unknown, not dead.
    """
    if not store.exists():
        return None
    with closing(_open(store)) as connection:
        row = connection.execute(f"SELECT {_COLUMNS} FROM heartbeat WHERE name = ?", (name,)).fetchone()  # noqa: S608  # constant names
    return Beat(*row) if row else None


class Heart:
    """Beats in a thread of its own while a kept run works or waits; use as a context manager.

    Args:
        kept: whose heartbeat it is.
        run_id: of the run.
    """

    def __init__(self, kept: KeptRun, run_id: str) -> None:
        self._store = kept.store
        self._name = kept.name
        self._run_id = run_id
        self._interval_s = kept.beat_interval_s
        self._process = process_identity.this_process()
        self._due_at = clock.now_s() + kept.work_s
        self._state = ("starting", clock.now_s(), "")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heart", daemon=True)

    def progress(self, phase: str, detail: str = "") -> None:
        """Record what the run does now; counts as progress."""
        self._state = (phase, clock.now_s(), detail)

    def __enter__(self) -> "Heart":
        self._write()
        self._thread.start()
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        """Record that the run has ended, and by which error if one ended it."""
        self._stop.set()
        self._thread.join(timeout=self._interval_s)
        self.progress(STOPPED, f"{type(error).__name__}: {error}"[:_LONGEST] if isinstance(error, Exception) else "")
        self._write()

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s):
            self._write()

    def _write(self) -> None:
        phase, progress_at, detail = self._state
        times = (clock.now_s(), progress_at, self._due_at)
        row = (self._name, self._process.pid, self._process.started, self._run_id, phase, *times, detail)
        try:
            with closing(_open(self._store)) as connection, connection:
                connection.execute(f"INSERT OR REPLACE INTO heartbeat ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?)", row)  # noqa: S608
        except (sqlite3.Error, OSError) as error:  # the next may succeed; without one the sensor looks at the process
            log.warning("beat not written", error=str(error))


def _open(store: Path) -> sqlite3.Connection:
    store.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(store, timeout=5)
    connection.execute(
        "CREATE TABLE IF NOT EXISTS heartbeat (name TEXT PRIMARY KEY, pid INT, process_started REAL, run_id TEXT,"
        " phase TEXT, beat_at REAL, progress_at REAL, due_at REAL, detail TEXT)"
    )
    return connection
