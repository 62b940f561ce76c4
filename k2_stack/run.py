"""Run a supervisor in the foreground or detached, and end one. One home has one supervisor at most."""

import asyncio
import contextlib
import signal
import subprocess
import sys
import time
from typing import Final

from rich.console import Console

from k2_core import clock, disk_space
from k2_core.errors import PartError
from k2_core.home_format import require_known_home
from k2_core.process_identity import ProcessIdentity
from k2_core.settings import Settings, child_environment
from k2_stack import banner, home_lock, logfiles, parts, ports, processes, stack_state, supervisor
from k2_stack.logfiles import log_of
from k2_stack.parts import Part
from k2_stack.progress import Progress
from k2_stack.stack_state import StackState
from k2_stack.supervisor import Supervisor
from k2_stack.terminal import open_console
from k2_stack.trade_sources import Source, absolute

LOOK_S: Final = 0.1
_LOCK_WAIT_S: Final = 2.0  # a killed supervisor may need a moment to let go
END_WITHIN_S: Final = 18.5


def foreground(settings: Settings, source: Source) -> None:
    """Run the whole platform; see :func:`supervise`."""
    logfiles.stamp_output(log_of(settings, "supervisor"))
    supervise(settings, parts.plan(settings, source), str(source))


def supervise(settings: Settings, plan: list[Part], source: str) -> None:
    """Run the parts of ``plan`` until SIGINT or SIGTERM, and end them.

    Raises:
        PartError: it is already running, a port is taken, or something did not start; then nothing is left behind.
        NewerHome: this K2 does not know the home's format.
    """
    _require_usable(settings)
    with home_lock.held(settings) as is_ours:
        if not is_ours:
            raise _already_running(settings, home_lock.holder(settings))
        console = open_console()
        if left := _end_orphans(settings):
            console.print(f"Ended {left} processes that an earlier run had left.")
        ports.require_free(plan, settings.api.host)
        asyncio.run(_run(settings, plan, source, console))


async def _run(settings: Settings, plan: list[Part], source: str, console: Console) -> None:
    progress, shown = Progress(console), False

    def show(now: StackState) -> None:
        nonlocal shown
        with contextlib.suppress(OSError):  # the output may be a file on a full disk
            progress(now)
            if now.phase == "running" and not shown:
                shown = True
                console.print(banner.banner(settings, now), soft_wrap=True)
            if now.phase == "stopping":
                console.print("Ending all parts …")

    platform = Supervisor(settings, plan, source, show)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, platform.stop)
    try:
        await platform.run()
    finally:
        progress.close()
    with contextlib.suppress(OSError):
        console.print("K2 has ended; `k2 up` goes on where it stopped.")


def detached(settings: Settings, source: Source, **variables: str) -> None:
    """Start a supervisor in a session of its own, show its progress, and return when the platform is ready.

    Home and ports are those of ``settings``; the rest comes from the environment with ``variables`` on top.

    Raises:
        PartError: it is already running, or did not start.
        NewerHome: this K2 does not know the home's format.
    """
    _require_usable(settings)
    if (holder := home_lock.holder(settings)) is not None:
        raise _already_running(settings, holder)
    # The log goes on from run to run: only what this supervisor writes is searched for an error.
    log = log_of(settings, "supervisor")
    began = log.stat().st_size if log.exists() else 0
    command = [sys.executable, "-m", "k2_stack", "up", "--source", source.kind]
    command += ["--speed", source.speed] if source.speed else []
    command += ["--rate", str(source.rate)] if source.rate else []
    command += map(absolute, source.files)
    listen = {f"K2_PORTS__{name.upper()}": str(port) for name, port in settings.ports}
    environment = child_environment(**{**variables, **listen, "K2_HOME": str(settings.home)})
    child = processes.start(command, log=log, env=environment, cwd=settings.home)
    console = open_console()
    now = _wait_until_running(settings, child, Progress(console))
    if now is None:
        with log.open(errors="replace") as file:
            file.seek(began)
            last = [line.partition(" k2: ")[2] for line in file if logfiles.unstamped(line).startswith("k2: ")][-1:]
        raise PartError(last[0].strip() if last else f"the platform did not start: see {log}.")
    console.print(banner.banner(settings, now, detached=True), soft_wrap=True)


def _wait_until_running(settings: Settings, child: subprocess.Popen[bytes], progress: Progress) -> StackState | None:
    """Return the state once the platform runs; None when its supervisor has ended. Ctrl-C ends the supervisor."""
    try:
        while child.poll() is None:
            now = stack_state.read(settings)
            if now is not None and now.pid == child.pid:
                progress(now)
                if now.phase == "running":
                    child.returncode = 0  # it lives on: without this, Popen warns that nobody waited for it
                    return now
            time.sleep(LOOK_S)
    except KeyboardInterrupt:
        child.terminate()
        child.wait()
        raise
    finally:
        progress.close()
    return None


def end(settings: Settings) -> str:
    """End the platform of this home within 20 s, and return a sentence that names what was ended."""
    leader = home_lock.holder(settings)
    if leader is not None:
        # The supervisor ends the parts itself. It is killed only when it does not come to an end.
        leader.terminate()
        deadline = clock.monotonic() + END_WITHIN_S
        while leader.is_running() and clock.monotonic() < deadline:
            time.sleep(LOOK_S)
        leader.kill()
    if home_lock.path(settings).exists():
        with home_lock.held(settings, _LOCK_WAIT_S) as is_ours:
            if not is_ours:
                raise PartError(
                    f"K2 in {settings.home} has not ended (pid {leader.pid if leader else 'unknown'}): try again."
                )
            left = _end_orphans(settings)
    else:  # a mistyped home, where nothing is created, or a deleted one, which may have left processes
        left = processes.end_marked(settings.home, supervisor.END_REST_S)
    if leader is None and not left:
        return f"Nothing of {settings.home} is running."
    return "K2 has ended." if not left else f"K2 has ended, with {left} processes that no supervisor held any more."


def _end_orphans(settings: Settings) -> int:
    """End what a supervisor that was killed left; return how many processes that were."""
    # First in the order of a clean end, by the state file; then whatever carries this home's mark in its environment.
    found = stack_state.read(settings)
    count = len(processes.marked(settings.home))
    if count and found:
        supervisor.end_all(settings, found)
        found.phase = "stopped"
        stack_state.write(settings, found)
    processes.end_marked(settings.home, supervisor.END_REST_S)
    return count


def _require_usable(settings: Settings) -> None:
    require_known_home(settings)
    full = [disk for disk in disk_space.disks(settings) if disk.is_full]
    if full:
        raise PartError(f"the disk of {full[0].folder} is full: free some space, and start again.")


def _already_running(settings: Settings, found: ProcessIdentity | None) -> PartError:
    pid = found.pid if found else "unknown"
    return PartError(
        f"K2 is already running in {settings.home} (pid {pid}): see `k2 status`, or end it with `k2 down`."
    )
