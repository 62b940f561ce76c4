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
        states = [_first_state(part) for part in plan]
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
                work = [group.create_task(self._keep(part)) for part in self._plan]
                work += [group.create_task(self._announce()), group.create_task(self._count_seconds())]
                work.append(group.create_task(self._catch_up_writing()))
                group.create_task(self._cancel_when_stopping(work))
        except* K2Error as errors:
            self.state.error = str(errors.exceptions[0])
        finally:
            self._end()
        if self.state.error:
            raise PartError(self.state.error)

    async def _keep(self, part: Part) -> None:
        await self._keepers[part.name].keep([self._keepers[name].ready for name in part.after], self._elapsed)

    async def _cancel_when_stopping(self, work: list[asyncio.Task[None]]) -> None:
        await self._stopping.wait()
        for task in work:
            task.cancel()

    async def _announce(self) -> None:
        for keeper in self._keepers.values():
            await keeper.ready.wait()
        await self._first_connection()
        self.state.phase, self.state.ready_after_s = "running", self._elapsed()
        self._publish()

    async def _first_connection(self) -> None:
        """Give the feed the time for its first try, so that the banner can say how that went."""
        feed, waited = self.state.part("feed"), 0.0
        first = feed.message if feed else ""
        while feed and feed.trouble and feed.message == first and waited < FIRST_CONNECT_S:
            await asyncio.sleep(LOOK_S)
            waited += LOOK_S

    async def _count_seconds(self) -> None:
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
        """Tell the state; a disk without space must not end the one who waits for space."""
        self.state.elapsed_s = self._elapsed()
        try:
            stack_state.write(self._settings, self.state)
            self._written = True
        except OSError:
            self._written = False  # k2 status looks at disks and processes itself
        self._changed(self.state)

    def _end(self) -> None:
        self.state.phase = "stopping"
        self._publish()
        end_all(self._settings, self.state)
        for keeper in self._keepers.values():
            if keeper.process:
                keeper.process.wait()
        self.state.phase = "failed" if self.state.error else "stopped"
        self._publish()


def end_all(settings: Settings, found: StackState) -> int:
    """End every part that the state names and whatever else this home's supervisors started; return how many were left.

    Dagster's daemon goes first: it would launch runs, and call those failed that end while they start. Broker and
    registry go last: the others write to them while they end.
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
        part.message = "" if part.message.startswith("it ") else part.message
    return rest


def _first_state(part: Part) -> PartState:
    port = next(iter(part.ports), None)
    return PartState(part.name, step=part.is_step, own=part.command is not None, port=port, url=part.url)
