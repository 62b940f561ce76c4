"""Show a platform that starts: a live table on a terminal, one line a change in a pipe or a log."""

from typing import Final

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from k2_stack import stack_state
from k2_stack.stack_state import PartState, StackState

_STEPS: Final = {
    "kafka-files": "Kafka's files",
    "registry-files": "the registry's files",
    "tables": "catalog and tables",
    "dagster-home": "Dagster's home",
}


class Progress:
    """A view of the state; call it with every change."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._shown: dict[str, tuple[str, int]] = {}
        self._spinners: dict[str, Spinner] = {}

    def __call__(self, now: StackState) -> None:
        """Show what changed."""
        if now.phase == "starting" and self._console.is_terminal:
            if self._live is None:
                self._live = Live(console=self._console, auto_refresh=False)
                self._live.start()
            self._live.update(self._table(now), refresh=True)
            return
        if now.phase != "starting":
            self.close()
        if now.phase not in {"starting", "running"}:
            return
        # A line for each part that has another state, or was restarted, since it was last shown.
        for part in now.parts:
            before, self._shown[part.name] = self._shown.get(part.name), (part.state, part.restarts)
            if before != self._shown[part.name] and part.state != stack_state.WAITING:
                line = f"[{now.elapsed_s:7.1f} s] {title_of(part)}: {part.state}"
                self._console.print(f"{line}{', ' if _detail(part) else ''}{_detail(part)}")

    def close(self) -> None:
        """End the live table; its last state stays on the terminal."""
        if self._live:
            self._live.stop()
            self._live = None

    def _table(self, now: StackState) -> Table:
        title = Text(f"K2 starts, source {now.source} · {now.elapsed_s:.0f} s")
        table = Table(box=None, show_header=False, title=title, title_justify="left", title_style="bold")
        for part in now.parts:
            seconds = part.took_s
            if seconds is None and part.began_s is not None:
                seconds = max(0.0, now.elapsed_s - part.began_s)
            took = f"{seconds:.1f} s" if seconds is not None else ""
            if part.state == stack_state.READY:
                mark: Text | Spinner = Text("!", "yellow") if part.trouble else Text("✓", "green")
            elif part.state == stack_state.WAITING:
                mark = Text("·", "dim")
            else:  # one spinner for each part: a new one would begin its turn again with every change
                mark = self._spinners.setdefault(part.name, Spinner("dots"))
            table.add_row(mark, title_of(part), Text(took, justify="right"), Text(_detail(part), "dim"))
            self._shown[part.name] = (part.state, part.restarts)
        return table


def title_of(part: PartState) -> str:
    """Return the name of a part as users see it."""
    return _STEPS.get(part.name, part.name)


def _detail(part: PartState) -> str:
    if part.state == stack_state.WAITING:
        return "waits"
    return part.message or (part.url or "" if part.state == stack_state.READY else "")
