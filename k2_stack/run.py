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
from k2_core.leases import held
from k2_core.process_identity import ProcessIdentity
from k2_core.settings import Settings, child_environment
from k2_stack import banner, logfiles, parts, ports, processes, stack_state, supervisor
from k2_stack.keeper import log_of
from k2_stack.parts import Part
from k2_stack.progress import Progress
from k2_stack.stack_state import StackState
from k2_stack.supervisor import Supervisor
from k2_stack.trade_sources import Source, absolute

LOOK_S: Final = 0.1
PIPE_WIDTH: Final = 200
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
    require_known_home(settings)
    _require_space(settings)
    with held(stack_state.leases(settings), stack_state.LEASE, wait_s=0) as lease:
        if lease is None:
            raise _already(settings, stack_state.supervisor_of(settings))
        console = _console()
        _clear(settings, console)
        ports.require_free(plan, settings.api.host)
        asyncio.run(_run(settings, plan, source, console))


async def _run(settings: Settings, plan: list[Part], source: str, console: Console) -> None:
    progress, shown = Progress(console), False

    def changed(now: StackState) -> None:
        with contextlib.suppress(OSError):  # what is shown may go into a file on a full disk
            show(now)

    def show(now: StackState) -> None:
        nonlocal shown
        progress(now)
        if now.phase == "running" and not shown:
            shown = True
            console.print(banner.banner(settings, now), soft_wrap=True, markup=False)
        if now.phase == "stopping":
            console.print("Ending all parts …")

    platform = Supervisor(settings, plan, source, changed)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, platform.stop)
    try:
        await platform.run()
    finally:
        progress.close()
    with contextlib.suppress(OSError):
        console.print("K2 has ended; `k2 up` goes on where it stopped.")


def _console() -> Console:
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    return console


def detached(settings: Settings, source: Source, **variables: str) -> None:
    """Start a supervisor of its own session, show how it gets on, and return when the platform is ready.

    Home and ports are those of ``settings``; the rest comes from the environment with ``variables`` on top.

    Raises:
        PartError: it is already running, or did not start.
        NewerHome: this K2 does not know the home's format.
    """
    require_known_home(settings)
    _require_space(settings)
    if (holder := stack_state.supervisor_of(settings)) is not None:
        raise _already(settings, holder)
    log = log_of(settings, "supervisor")
    began = log.stat().st_size if log.exists() else 0
    command = [sys.executable, "-m", "k2_stack", "up", "--source", source.kind, *_options(source)]
    listen = {f"K2_PORTS__{name.upper()}": str(port) for name, port in settings.ports}
    environment = child_environment(**{**variables, **listen, "K2_HOME": str(settings.home)})
    child = processes.start(command, log=log, env=environment, cwd=settings.home)
    console = _console()
    progress = Progress(console)
    try:
        now = _watch(settings, child, progress)
    except KeyboardInterrupt:
        child.terminate()
        child.wait()
        raise
    finally:
        progress.close()
    if now is None:
        with log.open(errors="replace") as file:
            file.seek(began)
            last = [line.partition(" k2: ")[2] for line in file if logfiles.unstamped(line).startswith("k2: ")][-1:]
        raise PartError(last[0].strip() if last else f"the platform did not start: see {log}.")
    console.print(banner.banner(settings, now, detached=True), soft_wrap=True, markup=False)


def _options(source: Source) -> list[str]:
    speed = ["--speed", source.speed] if source.speed else []
    rate = ["--rate", str(source.rate)] if source.rate else []
    return [*speed, *rate, *map(absolute, source.files)]


def _watch(settings: Settings, child: subprocess.Popen[bytes], progress: Progress) -> StackState | None:
    """Return the state once the platform runs; None when its supervisor has ended."""
    while child.poll() is None:
        now = stack_state.read(settings)
        if now is not None and now.pid == child.pid:
            progress(now)
            if now.phase == "running":
                child.returncode = 0  # it lives on by itself: nothing here will wait for it
                return now
        time.sleep(LOOK_S)
    return None


def end(settings: Settings) -> str:
    """End the platform of this home within 20 s, and say in a sentence what was ended."""
    found = stack_state.supervisor_of(settings)
    if found is not None:
        found.terminate()
        deadline = clock.monotonic() + END_WITHIN_S
        while found.is_running() and clock.monotonic() < deadline:
            time.sleep(LOOK_S)
        found.kill()
    if not (settings.home / "run").exists():  # nothing is made in a mistyped home; a deleted one may have processes
        return _said(settings, found, processes.end_marked(settings.home, supervisor.END_REST_S))
    with held(stack_state.leases(settings), stack_state.LEASE, wait_s=0) as lease:
        left = _end_orphans(settings) if lease else 0
    return _said(settings, found, left)


def _said(settings: Settings, found: ProcessIdentity | None, left: int) -> str:
    if found is None and not left:
        return f"Nothing of {settings.home} is running."
    return "K2 has ended." if not left else f"K2 has ended, with {left} processes that no supervisor held any more."


def _end_orphans(settings: Settings) -> int:
    """End what a supervisor that was killed left; return how many processes that were."""
    found = stack_state.read(settings)
    count = len(processes.marked(settings.home))
    if count and found:
        supervisor.end_all(settings, found)
        found.phase = "stopped"
        stack_state.write(settings, found)
    processes.end_marked(settings.home, supervisor.END_REST_S)
    return count


def _clear(settings: Settings, console: Console) -> None:
    if left := _end_orphans(settings):
        console.print(f"Ended {left} processes that an earlier run had left.")


def _require_space(settings: Settings) -> None:
    full = [disk for disk in disk_space.disks(settings) if disk.is_full]
    if full:
        raise PartError(f"the disk of {full[0].folder} is full: free some space, and start again.")


def _already(settings: Settings, found: ProcessIdentity | None) -> PartError:
    pid = found.pid if found else "unknown"
    return PartError(
        f"K2 is already running in {settings.home} (pid {pid}): see `k2 status`, or end it with `k2 down`."
    )
