"""What the suites measured while they injected faults, and the table that docs/reliability.md shows of it."""

from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

BEGIN, END = "<!-- written by make soak: begin -->", "<!-- written by make soak: end -->"
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
class Reliability:
    """Every fault that this session injected."""

    faults: dict[str, Fault] = field(default_factory=dict)

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

    def write(self, page: Path) -> None:
        """Replace the table in a page, between its two marks."""
        before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
        _, _, after = rest.partition(END)
        rows = [fault.row(name) for name, fault in self.faults.items()]
        table = "\n".join([BEGIN, "", HEADER, *rows, "", END])
        page.write_text(before + table + after, encoding="utf-8")


def _times(seconds: list[float]) -> str:
    if not seconds:
        return "–"
    if len(seconds) == 1:
        return f"{seconds[0]:.1f} s"
    return f"{median(seconds):.1f} s (max {max(seconds):.1f})"
