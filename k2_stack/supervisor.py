"""Start all parts, independent ones side by side, keep them, and end them all. One supervisor runs one home."""

import asyncio
from collections.abc import Callable
from typing import Final

from k2_core import clock, process_identity
from k2_core.errors import K2Error, PartError
from k2_core.settings import Settings
from k2_stack import parts, processes, stack_state
from k2_stack.keeper import LOOK_S, Keeper
from k2_stack.parts import Part
from k2_stack.stack_state import PartState, StackState

# How long each group of parts may take to end before it is killed: 18 s in all; `k2 down` promises 20 s.
END_FIRST_S: Final = 2.0
END_PARTS_S: Final = 7.0
END_STORES_S: Final = 7.0
END_REST_S: Final = 2.0
FIRST_CONNECT_S: Final = 5.0
WRITE_AGAIN_S: Final = 1.0


class Supervisor:
    """The platform of one home while it runs.

    Args:
        settings: of the home.
        plan: steps and parts.
        source: what the platform feeds, in the user's words.
        changed: called with the state when something changed, and every 0.2 s while parts start.
    """

    def __init__(
        self, settings: Settings, plan: list[Part], source: str, changed: Callable[[StackState], None]
    ) -> None:
        self._settings = settings
        self._plan = plan
        self._changed = changed
        self._began = clock.monotonic()
        self._written = True
        self._stopping = asyncio.Event()
        own = process_identity.this_process()
        # The keepers change these states; the supervisor writes them all to one file, which `k2 status` reads.
        states = [
            PartState(
                part.name,
                step=part.is_step,
                own=part.command is not None,
                port=next(iter(part.ports), None),
                url=part.url,
            )
            for part in plan
        ]
        self.state = StackState(str(settings.home), source, own.pid, own.started, states)
        self._keepers = {
            part.name: Keeper(part, now, settings, self._publish) for part, now in zip(plan, states, strict=True)
        }

    def stop(self) -> None:
        """Ask the supervisor to end everything; :meth:`run` returns when that is done."""
        self._stopping.set()

    async def run(self) -> None:
        """Start everything, and keep it running until :meth:`stop`; nothing is left behind, whatever happens.

        Raises:
            PartError: a part or a step did not come up the first time.
        """
        try:
            async with asyncio.TaskGroup() as group:
                # Each part waits only for those that it needs, so that independent ones start side by side.
                work = [
                    self._keepers[part.name].keep([self._keepers[name].ready for name in part.after], self._elapsed)
                    for part in self._plan
                ]
                work += [self._announce(), self._count_seconds(), self._catch_up_writing()]
                tasks = [group.create_task(each) for each in work]
                await self._stopping.wait()  # a part that does not come up cancels this, and all other tasks
                for task in tasks:
                    task.cancel()
        except* K2Error as errors:
            self.state.error = str(errors.exceptions[0])
        finally:
            # After a signal, after a part that did not come up, and after an error of ours alike.
            self.state.phase = "stopping"
            self._publish()
            end_all(self._settings, self.state)
            for keeper in self._keepers.values():
                if keeper.process:
                    keeper.process.wait()
            self.state.phase = "failed" if self.state.error else "stopped"
            self._publish()
        if self.state.error:
            raise PartError(self.state.error)

    async def _announce(self) -> None:
        for keeper in self._keepers.values():
            await keeper.ready.wait()
        # The feed serves before it is connected. Wait a little for its first try, so that the banner can report it.
        feed, waited = self.state.part("feed"), 0.0
        first = feed.message if feed else ""
        while feed and feed.trouble and feed.message == first and waited < FIRST_CONNECT_S:
            await asyncio.sleep(LOOK_S)
            waited += LOOK_S
        self.state.phase, self.state.ready_after_s = "running", self._elapsed()
        self._publish()

    async def _count_seconds(self) -> None:
        # Only while parts start: afterwards the state is shown when it changes.
        while self.state.phase == "starting":
            self.state.elapsed_s = self._elapsed()
            self._changed(self.state)
            await asyncio.sleep(LOOK_S)

    def _elapsed(self) -> float:
        return clock.monotonic() - self._began

    async def _catch_up_writing(self) -> None:
        """Write the state again when that has failed, so that it is true soon after the disk has space."""
        while True:
            await asyncio.sleep(WRITE_AGAIN_S)
            if not self._written:
                self._publish()

    def _publish(self) -> None:
        """Write and show the state. A full disk must not end the supervisor: it goes on until there is space again."""
        self.state.elapsed_s = self._elapsed()
        try:
            stack_state.write(self._settings, self.state)
            self._written = True
        except OSError:
            self._written = False  # until then `k2 status` looks at disks and processes itself
        self._changed(self.state)


def end_all(settings: Settings, found: StackState) -> int:
    """End every part that the state names and whatever else this home's supervisors started; return how many were left.

    Dagster's daemon ends first: it would launch more runs, and mark runs as failed that end while they start. Broker
    and registry end last: the other parts write to them while they end.
    """
    leaders = {part.name: part.identity for part in found.parts if part.identity}
    first = [leaders.pop(name) for name in parts.FIRST_TO_END if name in leaders]
    stores = [leaders.pop(name) for name in parts.LAST_TO_END if name in leaders]
    processes.end(first, END_FIRST_S)
    processes.end(leaders.values(), END_PARTS_S)
    processes.end(stores, END_STORES_S)
    rest = processes.end_marked(settings.home, END_REST_S)
    for part in found.parts:
        part.state, part.pid, part.process_started, part.trouble = stack_state.STOPPED, None, None, False
        # A step's result stays, such as a hint to migrate tables. What "it" is doing is over.
        part.message = "" if part.message.startswith("it ") else part.message
    return rest
