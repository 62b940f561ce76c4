"""What the supervisor knows of its parts: ``K2_HOME/run/stack.json``, for other processes and for later starts."""

from typing import Final

import msgspec

from k2_core import whole_file
from k2_core.errors import PartError
from k2_core.home_format import require_known_home
from k2_core.process_identity import ProcessIdentity
from k2_core.settings import Settings
from k2_stack import home_lock

WAITING: Final = "waiting"
STARTING: Final = "starting"
READY: Final = "ready"
FAILING: Final = "failing"
RESTARTING: Final = "restarting"
STOPPED: Final = "stopped"


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
    def identity(self) -> ProcessIdentity | None:
        """The process that leads the part's session; None when none was started."""
        return ProcessIdentity(self.pid, self.process_started) if self.pid and self.process_started else None


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
    def identity(self) -> ProcessIdentity:
        """The supervisor's process."""
        return ProcessIdentity(self.pid, self.process_started)

    def part(self, name: str) -> PartState | None:
        """Return the part of that name, if this platform has it."""
        return next((part for part in self.parts if part.name == name), None)

    def url(self, name: str) -> str:
        """Return where the part of that name is found; an empty text when it has no address, or is not there."""
        part = self.part(name)
        return (part.url if part else None) or ""


def write(settings: Settings, state: StackState) -> None:
    """Replace the state file at once, so that a reader never sees half of it."""
    whole_file.replace(settings.home / "run" / "stack.json", msgspec.json.encode(state))


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
    supervisor = home_lock.holder(settings)
    if now is None or supervisor is None or supervisor.pid != now.pid:
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
