"""What the suites measured while they injected faults, and the tables that docs/reliability.md shows of it."""

import os
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

HEADER = (
    "| fault | injected | noticed after | recovered after | rows compared | lost | doubled |\n"
    "|---|---:|---:|---:|---:|---:|---:|"
)


@dataclass
class Fault:
    """One fault: how often it was injected and what came of it; times in seconds, one for each that was measured."""

    injected: int = 0
    noticed_s: list[float] = field(default_factory=list)
    recovered_s: list[float] = field(default_factory=list)
    compared: int = 0
    lost: int = 0
    doubled: int = 0

    def row(self, name: str) -> str:
        """Return the fault's line of the table."""
        times = (_times(self.noticed_s), _times(self.recovered_s))
        counts = (self.compared, self.lost, self.doubled)
        return f"| {name} | {self.injected} | {' | '.join(times)} | {' | '.join(f'{n:,}' for n in counts)} |"


@dataclass
class Faults:
    """Every fault of one part that this session injected."""

    faults: dict[str, Fault] = field(default_factory=dict)
    began_s: float = field(default_factory=time.monotonic)  # noqa: TID251

    def record(
        self,
        fault: str,
        *,
        injected: int = 1,
        noticed_s: float | None = None,
        recovered_s: float | None = None,
        compared: int = 0,
        lost: int = 0,
        doubled: int = 0,
    ) -> None:
        """Add injections of a fault.

        Args:
            fault: what was done, in a reader's words; calls with the same text add up.
            injected: how often, in this call.
            noticed_s: until the platform said so, where that was measured.
            recovered_s: until it worked again, where that was measured.
            compared: rows whose multiset was compared afterwards.
            lost: rows that were produced and do not stand.
            doubled: rows that stand more often than they were produced.
        """
        found = self.faults.setdefault(fault, Fault())
        found.injected += injected
        found.noticed_s += [] if noticed_s is None else [noticed_s]
        found.recovered_s += [] if recovered_s is None else [recovered_s]
        found.compared += compared
        found.lost += lost
        found.doubled += doubled

    def table(self) -> str:
        """Return the part's table."""
        return "\n".join([HEADER, *(fault.row(name) for name, fault in self.faults.items())])


class Reliability:
    """The faults of every part; ``form`` is which form of the suites ran."""

    def __init__(self, form: str) -> None:
        self._form = form
        self._parts: dict[str, Faults] = {}

    def of(self, part: str | None) -> Faults:
        """Return the faults of a part."""
        assert part, "a test that injects faults says of which part it is: pytest.mark.reliability(PART)"
        return self._parts.setdefault(part, Faults())

    def write(self, page: Path) -> None:
        """Replace the tables of the parts that ran in a page, each between its two marks."""
        text = page.read_text(encoding="utf-8")
        for part, faults in self._parts.items():
            begin, end = (f"<!-- make soak PART={part}: {word} -->" for word in ("begin", "end"))
            before, found, rest = text.partition(begin)
            _, closed, after = rest.partition(end)
            assert found, f"{page} has no place for {part}: {begin}"
            assert closed, f"{page} has no place for {part}: {end}"
            text = f"{before}{begin}\n\n{self._said(faults)}\n\n{faults.table()}\n\n{end}{after}"
        page.write_text(text, encoding="utf-8")

    def _said(self, faults: Faults) -> str:
        minutes = (time.monotonic() - faults.began_s) / 60  # noqa: TID251
        day, load = datetime.now(UTC).date(), os.getloadavg()[1]  # noqa: TID251
        took = f"{minutes:.0f} minutes" if minutes >= 1.5 else "a minute"
        return f"Taken on {day} in the {self._form} form: {took}, load average {load:.1f} at the end."


def _times(seconds: list[float]) -> str:
    if not seconds:
        return "–"
    if len(seconds) == 1:
        return f"{seconds[0]:.1f} s"
    return f"{median(seconds):.1f} s (max {max(seconds):.1f})"
