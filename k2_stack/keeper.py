"""Keep one part: start it, ask until it serves, watch it, and start it again with back-off when it dies."""

import asyncio
import subprocess
from collections.abc import Callable
from typing import Final

from k2_core import clock, process_identity
from k2_core.errors import K2Error, PartError
from k2_core.settings import Settings, child_environment
from k2_stack import parts, processes, stack_state
from k2_stack.deaths import Deaths, cause
from k2_stack.logfiles import last_line, log_of
from k2_stack.parts import Part
from k2_stack.probes import Answer, NotYet, Silent
from k2_stack.stack_state import PartState

READY_WITHIN_S: Final = 180.0  # on a busy machine; the first start of all parts takes half a minute
ASK_STARTING_S: Final = 0.25  # between two questions to a part that starts
ASK_READY_S: Final = 2.0  # and to one that serves
LOOK_S: Final = 0.2  # between two looks at a process, which cost nothing
BACKOFF_FIRST_S: Final = 1.0
BACKOFF_LAST_S: Final = 30.0
SETTLED_S: Final = 60.0  # a part that ran this long was well: its next death begins the back-off again
FAILURES_UNTIL_REPORTED: Final = 3  # one lost answer is no news
END_ONE_S: Final = 5.0
TAKE_OVER: Final = "--take-over"

_PYTHON: Final = {
    "PYTHONUNBUFFERED": "1",
    "DAGSTER_DISABLE_TELEMETRY": "1",
    "MALLOC_ARENA_MAX": "2",  # API 144 MB instead of 175, daemon 118 instead of 145
    "ARROW_DEFAULT_MEMORY_POOL": "jemalloc",  # returns unused memory to the system: all parts 2,179 MB instead of 2,311
}

Process = subprocess.Popen[bytes]


class Keeper:
    """One part of a running platform.

    Args:
        part: what to keep.
        now: the part's state, which this keeper alone changes.
        settings: of the home.
        publish: called after every change of ``now``.
    """

    def __init__(self, part: Part, now: PartState, settings: Settings, publish: Callable[[], None]) -> None:
        self.ready = asyncio.Event()
        self.process: Process | None = None
        self._part = part
        self._now = now
        self._settings = settings
        self._publish = publish
        self._log = log_of(settings, part.name)
        self._started_s = 0.0
        self._died = ""
        self._deaths = Deaths()
        self._successor: Process | None = None

    async def keep(self, after: list[asyncio.Event], elapsed: Callable[[], float]) -> None:
        """Wait for what comes first, then keep the part for ever; a step once.

        Raises:
            PartError: the part did not come up the first time.
        """
        for event in after:
            await event.wait()
        self._now.began_s = elapsed()
        await self._start()
        if self._part.is_step:
            while self._exited() is None:
                self._now.message = last_line(self._log)
                await asyncio.sleep(LOOK_S)
            if self._exited():
                raise PartError(last_line(self._log) or f"{self._part.name} failed: see {self._log}.")
            self._now.state, self._now.message, self._now.pid = stack_state.READY, last_line(self._log), None
        else:
            await self._await_ready()
        self._now.took_s = elapsed() - self._now.began_s
        self.ready.set()
        self._publish()
        while not self._part.is_step:
            await self._restart(await self._watch())

    async def _start(self) -> None:
        self._now.state, self._now.message, self._now.trouble = stack_state.STARTING, "", False
        if self._part.command is None:  # the user's own broker or registry is only asked
            return
        if self._part.is_step:
            self._log.unlink(missing_ok=True)  # its last line is its message
        self._started_s = clock.now_s()
        self._deaths.look()
        self._keep_process(await self._launch())

    async def _launch(self, *more: str) -> Process:
        """Start a process of the part; ``more`` arguments follow its command's own."""
        assert self._part.command is not None  # noqa: S101  # the part is not the user's own
        home = str(self._settings.home)
        own = {"K2_HOME": home, "DAGSTER_HOME": str(parts.dagster_home(self._settings)), processes.MARK: home}
        try:
            # Both may read files and ask other parts, for which the event loop must not wait.
            extra = await asyncio.to_thread(self._part.environment)
            command = await asyncio.to_thread(self._part.command)
            environment = {**child_environment(**_PYTHON, **own), **extra}
            return processes.start([*command, *more], log=self._log, env=environment, cwd=self._settings.home)
        except (NotYet, OSError) as reason:
            raise PartError(f"the {self._part.name} cannot be started: {reason}.") from None

    def _keep_process(self, process: Process) -> None:
        self.process = process
        leader = process_identity.of(process.pid)
        self._now.pid, self._now.process_started = process.pid, leader.started if leader else None
        self._publish()

    async def _await_ready(self) -> None:
        """Ask the part until it serves; raise PartError if it ends, or does not serve within three minutes."""
        deadline = clock.monotonic() + READY_WITHIN_S
        while True:
            # Look for an end before asking: if the process had ended by then, another process gave the answer.
            died = self._exited()
            try:
                answer = await self._ask()
            except NotYet as reason:
                self._now.message = str(reason)
                if died is not None or clock.monotonic() > deadline:
                    raise PartError(self._why_not(died, str(reason))) from None
                await asyncio.sleep(ASK_STARTING_S)
            else:
                if died is not None:
                    raise PartError(self._why_not(died, "another process answers in its place"))
                self._serves(answer)
                return

    async def _watch(self) -> str:
        """Ask the part every two seconds while it runs; return why it must be started again.

        It must when its process has ended and no successor has taken over, or when it has been silent for too long. A
        part that answers with an error, or that it waits, is not silent: a restart would not help it.
        """
        failures, heard_at = 0, clock.monotonic()
        while True:
            for _ in range(int(ASK_READY_S / LOOK_S)):
                if self._exited() is None:
                    await asyncio.sleep(LOOK_S)
            if self._exited() is not None and not self._succeeded():
                return self._deaths.sentence(self._exited() or 0)
            try:
                processes.limit_log(self._log)
            except OSError:  # a full disk: remove the copy, and limit the log once there is space
                self._log.with_suffix(".log.1").unlink(missing_ok=True)
            self._deaths.look()
            await self._hand_over_if_asked()
            try:
                self._serves(await self._ask())
                failures, heard_at = 0, clock.monotonic()
            except NotYet as reason:
                failures += 1
                heard_at = heard_at if isinstance(reason, Silent) else clock.monotonic()
                if failures >= FAILURES_UNTIL_REPORTED:
                    self._now.state, self._now.message = stack_state.FAILING, f"it does not answer: {reason}"
                    self._publish()
            silent_s = clock.monotonic() - heard_at
            # The time alone is no proof: it passes also while the machine sleeps, and then nobody has asked.
            asked_often = failures > FAILURES_UNTIL_REPORTED
            if self.process and asked_often and silent_s > self._settings.supervisor.silent_after_s:
                return f"it gave no sign of life for {silent_s:.0f} s"

    # A hand-over, so that the feed misses nothing while its version changes: whoever wants one writes the request
    # file. The keeper then starts a successor beside the process. The successor subscribes, takes the feed over, and
    # ends the process. From then on the keeper keeps the successor, and counts no restart. If the successor ends
    # first, the process goes on.

    async def _hand_over_if_asked(self) -> None:
        request = self._part.handover
        if request is None or not request.exists():
            return
        request.unlink()
        if self._successor is not None and self._successor.poll() is None:
            return  # one is already under way
        try:
            self._successor = await self._launch(TAKE_OVER)
        except PartError as error:  # the present process goes on; whoever asked reads this log
            with self._log.open("a") as log:
                log.write(f"no successor: {error}\n")

    def _succeeded(self) -> bool:
        """Keep the successor in the place of the process that has ended; return whether there is one."""
        successor, self._successor = self._successor, None
        if successor is None or successor.poll() is not None:
            return False
        self._died = ""
        self._keep_process(successor)
        return True

    async def _restart(self, why: str) -> None:
        """Start the part again, and again with longer pauses, until it serves.

        The pause is 1 s for a part that had run for a minute. For one that dies sooner it doubles with every restart,
        up to 30 s, so that a part that cannot run does not keep the machine busy.
        """
        self._died = why
        settled = clock.now_s() - self._started_s > SETTLED_S
        pause = BACKOFF_FIRST_S if settled else min(BACKOFF_FIRST_S * 2 ** min(self._now.restarts, 10), BACKOFF_LAST_S)
        while True:
            self._now.state, self._now.restarts = stack_state.RESTARTING, self._now.restarts + 1
            self._now.message = f"{why}; restart {self._now.restarts} in {pause:.0f} s; log: {self._log}"
            self._publish()
            if self._now.identity:
                # A process that hangs, or a descendant, may hold the port that the next one needs.
                await asyncio.to_thread(processes.end, [self._now.identity], END_ONE_S)
            if self._succeeded():
                return
            await asyncio.sleep(pause)
            try:
                await self._start()
                await self._await_ready()
            except K2Error as error:
                why, pause = str(error), min(pause * 2, BACKOFF_LAST_S)
            else:
                return

    async def _ask(self) -> Answer:
        assert self._part.probe is not None  # noqa: S101  # only steps have none, and nobody asks them
        return await asyncio.to_thread(self._part.probe, self._started_s)

    def _serves(self, answer: Answer) -> None:
        message = answer.message
        if self._died and not answer.trouble:
            message = f"restarted after {self._died}{'; ' if message else ''}{message}"
        if (self._now.state, self._now.message, self._now.trouble) != (stack_state.READY, message, answer.trouble):
            self._now.state, self._now.message, self._now.trouble = stack_state.READY, message, answer.trouble
            self._publish()

    def _exited(self) -> int | None:
        return self.process.poll() if self.process else None

    def _why_not(self, died: int | None, reason: str) -> str:
        name = self._part.name
        if self._part.command is None:
            return (
                f"your own {name} at {self._part.url} does not answer ({reason}): check that it runs and the address."
            )
        if died is None:
            return f"the {name} did not serve within {READY_WITHIN_S:.0f} s ({reason}): see {self._log}."
        return f"the {name} ended while starting ({cause(died)}): {last_line(self._log)} (log: {self._log})."
