"""What the supervisor knows of its parts: ``K2_HOME/run/stack.json``, for other processes and for later starts."""

import fcntl
import os
import time
from pathlib import Path
from typing import IO, Final

import msgspec

from k2_core.settings import Settings
from k2_stack.processes import Identity

WAITING: Final = "waiting"
STARTING: Final = "starting"
READY: Final = "ready"
FAILING: Final = "failing"
RESTARTING: Final = "restarting"
STOPPED: Final = "stopped"

STEPS: Final = ("kafka-files", "registry-files", "tables", "dagster-home")

_TRIES: Final = 5


class PartState(msgspec.Struct):
    """One part. ``state`` is waiting, starting, ready, failing (it runs, but answers no more), restarting or stopped.

    A ``step`` is work that ends, such as fetching Kafka. ``trouble`` marks a ready part whose message is a warning.
    """

    name: str
    step: bool = False
    own: bool = True
    state: str = WAITING
    pid: int | None = None
    process_started: float | None = None
    port: int | None = None
    url: str | None = None
    restarts: int = 0
    message: str = ""
    trouble: bool = False
    began_s: float | None = None
    took_s: float | None = None

    @property
    def identity(self) -> Identity | None:
        """The process that leads the part's session; None when none was started."""
        return Identity(self.pid, self.process_started) if self.pid and self.process_started else None


class StackState(msgspec.Struct):
    """The platform. ``phase`` is starting, running, stopping, stopped or failed; ``error`` says why it failed."""

    home: str
    source: str
    pid: int
    process_started: float
    parts: list[PartState]
    phase: str = "starting"
    error: str = ""
    elapsed_s: float = 0.0
    ready_after_s: float | None = None

    @property
    def ready(self) -> bool:
        """Whether every part serves."""
        return self.phase == "running" and all(part.state == READY for part in self.parts)

    @property
    def identity(self) -> Identity:
        """The supervisor's process."""
        return Identity(self.pid, self.process_started)

    def part(self, name: str) -> PartState | None:
        """Return the part of that name, if this platform has it."""
        return next((part for part in self.parts if part.name == name), None)


def run_folder(settings: Settings) -> Path:
    """Return the folder of runtime files, and make it."""
    folder = settings.home / "run"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write(settings: Settings, state: StackState) -> None:
    """Replace the state file at once, so that a reader never sees half of it."""
    path = run_folder(settings) / "stack.json"
    fresh = path.with_suffix(".json.new")
    fresh.write_bytes(msgspec.json.encode(state))
    fresh.replace(path)


def read(settings: Settings) -> StackState | None:
    """Return what the newest supervisor of this home wrote; None when there was none yet."""
    try:
        return msgspec.json.decode((settings.home / "run" / "stack.json").read_bytes(), type=StackState)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


class Lock:
    """The right to run the platform of one home. The kernel gives it back when its holder dies, however it dies."""

    def __init__(self, settings: Settings) -> None:
        self._path = settings.home / "run" / "stack.lock"
        self._file: IO[str] | None = None

    def acquire(self) -> bool:
        """Take the lock; False when another process has it."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = self._path.open("a+")
        for _ in range(_TRIES):  # whoever asks for the holder has it for a moment
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.05)
        else:
            file.close()
            return False
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        self._file = file
        return True

    def release(self) -> None:
        """Give the lock back."""
        if self._file:
            self._file.close()
            self._file = None

    def holder(self) -> int | None:
        """Return the pid of the process that holds the lock; None when nobody does."""
        if not self._path.exists():
            return None
        with self._path.open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                return int(file.read() or 0)
        return None
