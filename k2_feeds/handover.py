"""Who feeds a venue on this machine, and how one process takes over from another without a gap. Knows no sockets."""

import asyncio
import json
import os
import time
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import psutil

from k2_core import clock, process_identity, whole_file
from k2_core.errors import PartError, SettingsError
from k2_core.logs import logger
from k2_core.process_identity import ProcessIdentity
from k2_core.settings import Settings, under_supervisor

_LOOK_S: Final = 0.05
_SAY_AFTER_S: Final = 15.0
_log = logger(__name__)


class Feeder(NamedTuple):
    """A process that feeds venues, as ``run/feed/<venue>.pid.json`` names it."""

    pid: int
    started: float
    """Unix time, since pids are used again."""
    health_port: int
    venues: tuple[str, ...]
    supervisor: int
    """Pid of the `k2 up` that started it; 0 when somebody else did."""

    @property
    def supervised(self) -> bool:
        """Whether the `k2 up` that started this process still watches over it."""
        try:
            return self.supervisor != 0 and psutil.Process(self.pid).ppid() == self.supervisor
        except psutil.Error:
            return False

    @property
    def process(self) -> ProcessIdentity:
        """This very process."""
        return ProcessIdentity(self.pid, self.started)

    async def end(self) -> None:
        """Ask this process to end once, and wait until it has."""
        asked_at = said_at = clock.monotonic()
        self.process.terminate()
        while self.process.is_running():
            await asyncio.sleep(_LOOK_S)
            if clock.monotonic() - said_at > _SAY_AFTER_S:
                said_at = clock.monotonic()
                _log.warning("the predecessor has not ended yet", pid=self.pid, waited_s=round(said_at - asked_at))


def feed_folder(settings: Settings) -> Path:
    """Return where feeds keep what another process must find."""
    return settings.home / "run" / "feed"


def make_folder(settings: Settings) -> None:
    """Create :func:`feed_folder`.

    Raises:
        SettingsError: it cannot be created, or the home whose broker the feed would use does not exist: the platform of
            another home may use that port.
    """
    if not settings.home.exists() and settings.kafka.bootstrap_servers is None:
        raise SettingsError(
            f"there is no home of K2 at {settings.home}: set K2_HOME to one that k2 up has made, or "
            "K2_KAFKA__BOOTSTRAP_SERVERS to your own Kafka."
        )
    try:
        feed_folder(settings).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"K2_HOME={settings.home} cannot be used: {error.strerror}.") from None


def request_file(settings: Settings) -> Path:
    """Return the file that asks the supervisor for a successor of the feed."""
    return feed_folder(settings) / "handover.request.json"


def feeder_of(settings: Settings, venue: str) -> Feeder | None:
    """Return the process that feeds a venue now; None when there is none."""
    return _read(_pid_file(settings, venue))


def await_successor(settings: Settings, venue: str, before: Feeder, within_s: float) -> Feeder:
    """Wait until another process than ``before`` feeds a venue, and return it. Blocks.

    Raises:
        PartError: no other process does in time.
    """
    deadline = clock.monotonic() + within_s
    while clock.monotonic() < deadline:
        feeder = feeder_of(settings, venue)
        if feeder is not None and feeder.pid != before.pid:
            return feeder
        time.sleep(_LOOK_S)
    still = f"process {before.pid} still feeds it" if before.process.is_running() else "nothing feeds it now"
    raise PartError(f"no other process feeds {venue} after {within_s:.0f} s; {still}: k2 logs feed says more.")


def this_process(venues: tuple[str, ...], health_port: int) -> Feeder:
    """Return this process as a feeder of these venues."""
    supervisor = os.getppid() if under_supervisor() else 0
    me = process_identity.this_process()
    return Feeder(me.pid, me.started, health_port, venues, supervisor)


def claim(settings: Settings, me: Feeder, venue: str) -> None:
    """Record that this process feeds a venue, and is no longer a successor."""
    whole_file.replace(_pid_file(settings, venue), msgspec.json.encode(me))
    if _read(_successor_file(settings, venue)) == me:
        _successor_file(settings, venue).unlink(missing_ok=True)


def give_up(settings: Settings, me: Feeder) -> None:
    """Remove what :func:`claim` and :func:`announce` wrote, unless another process has replaced it."""
    for venue in me.venues:
        for path in (_pid_file(settings, venue), _successor_file(settings, venue)):
            if _read(path) == me:
                path.unlink(missing_ok=True)


def announce(settings: Settings, me: Feeder) -> None:
    """Record that this process is about to take these venues over."""
    for venue in me.venues:
        whole_file.replace(_successor_file(settings, venue), msgspec.json.encode(me))


def successor_of(settings: Settings, venue: str) -> Feeder | None:
    """Return the process that is about to take a venue over from this one; None when there is none."""
    feeder = _read(_successor_file(settings, venue))
    return feeder if feeder is not None and feeder.pid != os.getpid() else None


def predecessors(settings: Settings, venues: tuple[str, ...], *, take_over: bool) -> list[Feeder]:
    """Return the processes that feed any of these venues now.

    Raises:
        PartError: there is one and ``take_over`` is false, or it feeds other venues too, or is being replaced.
    """
    found = {feeder.pid: feeder for venue in venues if (feeder := feeder_of(settings, venue)) is not None}
    for venue in venues:
        successor = successor_of(settings, venue)
        if successor is not None:
            msg = f"process {successor.pid} takes over {', '.join(successor.venues)} just now: wait until it has."
            raise PartError(msg)
    for feeder in found.values():
        name = ", ".join(feeder.venues)
        if not take_over:
            msg = f"process {feeder.pid} feeds {name} already: end it, or take over from it with --take-over."
            raise PartError(msg)
        if not set(feeder.venues) <= set(venues):
            msg = f"process {feeder.pid} feeds {name}: take over all of these venues, or none."
            raise PartError(msg)
    return list(found.values())


class TakeOver:
    """End the predecessors, each as soon as all of its venues are fed by this process as well."""

    def __init__(self, feeders: list[Feeder]) -> None:
        self.feeders = feeders
        self._ready: set[str] = set()
        self._gone: dict[int, asyncio.Task[None]] = {}

    def predecessor_of(self, venue: str) -> Feeder | None:
        """Return the process that fed a venue when this one began."""
        return next((feeder for feeder in self.feeders if venue in feeder.venues), None)

    async def ended(self, venue: str) -> Feeder | None:
        """Report that this process feeds a venue, wait until the venue's predecessor has ended, and return that.

        A predecessor of several venues ends once this process feeds all of them.
        """
        feeder = self.predecessor_of(venue)
        self._ready.add(venue)
        if feeder is None:
            return None
        # The predecessor ends as a whole, so every venue that it feeds must be fed here first.
        while not set(feeder.venues) <= self._ready:  # noqa: ASYNC110  # any of the venues may be the last
            await asyncio.sleep(_LOOK_S)
        if feeder.pid not in self._gone:  # asked once: a second SIGTERM would kill it while it ends
            self._gone[feeder.pid] = asyncio.create_task(feeder.end())
        await asyncio.shield(self._gone[feeder.pid])
        return feeder


def request_handover(settings: Settings, venue: str) -> Feeder:
    """Ask the supervisor for a successor of the process that feeds a venue; return that process.

    Raises:
        PartError: no process feeds the venue, or it has no supervisor.
    """
    feeder = feeder_of(settings, venue)
    if feeder is None:
        raise PartError(f"nothing feeds {venue} under {settings.home}: start it with k2 feed run {venue}.")
    if not feeder.supervised:
        command = f"k2 feed run {' '.join(feeder.venues)} --take-over"
        msg = f"process {feeder.pid} feeds {venue}, and no k2 up watches over it: start its successor with {command}."
        raise PartError(msg)
    whole_file.replace(request_file(settings), json.dumps({"venue": venue}).encode())
    return feeder


def _pid_file(settings: Settings, venue: str) -> Path:
    return feed_folder(settings) / f"{venue}.pid.json"


def _successor_file(settings: Settings, venue: str) -> Path:
    return feed_folder(settings) / f"{venue}.successor.json"


def _read(path: Path) -> Feeder | None:
    """Return the process that a file names, if it still runs."""
    try:
        feeder = msgspec.json.decode(path.read_bytes(), type=Feeder)
    except (FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError):
        return None
    return feeder if feeder.process.is_running() else None
