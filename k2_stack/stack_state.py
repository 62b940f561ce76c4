"""What the supervisor knows of its parts: ``K2_HOME/run/stack.json``, for other processes and for later starts."""

import fcntl
import os
import time
from pathlib import Path
from typing import IO, Final

import msgspec

from k2_core.errors import PartError
from k2_core.home_format import require_known_home
from k2_core.settings import Settings
from k2_stack.processes import Identity

WAITING: Final = "waiting"
STARTING: Final = "starting"
READY: Final = "ready"
FAILING: Final = "failing"
RESTARTING: Final = "restarting"
STOPPED: Final = "stopped"

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
    def recorded(self) -> bool:
        """Whether its feed is fed from recordings."""
        return self.source.partition(" ")[0] == "recording"

    @property
    def identity(self) -> Identity:
        """The supervisor's process."""
        return Identity(self.pid, self.process_started)

    def part(self, name: str) -> PartState | None:
        """Return the part of that name, if this platform has it."""
        return next((part for part in self.parts if part.name == name), None)

    def url(self, name: str) -> str:
        """Return where the part of that name is found; an empty text when it has no address, or is not there."""
        part = self.part(name)
        return (part.url if part else None) or ""


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
    except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
        return None


def running(settings: Settings) -> StackState:
    """Return the platform that runs from this home, whose parts may listen on other ports than the settings name.

    Raises:
        PartError: none does.
        NewerHome: this K2 does not know the home's format.
    """
    require_known_home(settings)
    now = read(settings)
    if now is None or Lock(settings).holder() != now.pid:
        raise PartError(
            f"no platform runs from {settings.home}: start it with `k2 up`, or set K2_HOME to the home of one."
        )
    return now


def bound(settings: Settings) -> Settings:
    """Return settings that name the broker and the registry which this home's platform runs, or the user's own.

    Raises:
        PartError: the settings name no Kafka, and no platform runs from this home: another one may hold the port.
    """
    if settings.kafka.bootstrap_servers:
        return settings
    now = running(settings)
    kafka = settings.kafka.model_copy(update={"bootstrap_servers": now.url("broker")})
    registry = settings.registry.model_copy(update={"url": now.url("registry")})
    return settings.model_copy(update={"kafka": kafka, "registry": registry})


class Lock:
    """The right to run the platform of one home. The kernel gives it back when its holder dies, however it dies."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._path = settings.home / "run" / "stack.lock"
        self._file: IO[str] | None = None

    def exists(self) -> bool:
        """Tell whether a platform ever ran from this home."""
        return self._path.exists()

    def acquire(self) -> bool:
        """Take the lock; False when another process has it."""
        run_folder(self._settings)
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
        """Return the pid of the process that holds the lock; None when nobody does. Makes nothing."""
        try:
            with self._path.open("r+") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    return int(file.read() or 0)
        except (FileNotFoundError, NotADirectoryError):  # no platform ever ran from here
            return None
        return None
