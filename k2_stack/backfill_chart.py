"""How the days of a backfill are, from its runs, and a chart of them: one cell a day. Pure; asks nobody."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import groupby
from typing import Final

from rich.text import Text

WAITING, FAILED, RUNNING, DONE = range(4)
"""States of a day, in order: of several runs of a day the furthest counts."""
_CELLS: Final = {DONE: ("█", "green"), RUNNING: ("▒", "yellow"), FAILED: ("✗", "bold red"), WAITING: ("·", "dim")}
_NAMES: Final = {DONE: "done", RUNNING: "running", FAILED: "failed", WAITING: "waiting"}
_OF_STATUS: Final = {"STARTED": RUNNING, "CANCELING": RUNNING, "SUCCESS": DONE, "FAILURE": FAILED, "CANCELED": FAILED}

Days = dict[str, dict[str, int]]
"""{asset: {day: its state}}."""


@dataclass(frozen=True)
class Run:
    """A run of a backfill: its assets, its first and last day, and the (asset, day) pairs that it has reported."""

    run_id: str
    status: str
    assets: tuple[str, ...]
    first: str
    last: str
    reported: frozenset[tuple[str, str]] = frozenset()

    def has(self, asset: str, day: str) -> bool:
        """Return whether the run is to rebuild a day of an asset."""
        return asset in self.assets and self.first <= day <= self.last


def days_of(targeted: Mapping[str, Iterable[str]], runs: Iterable[Run], *, ended: bool) -> Days:
    """Return the state of each day; what a backfill that has ended did not rebuild has failed, without a run too."""
    runs, found = list(runs), Days()
    for asset, days in targeted.items():
        found[asset] = {}
        for day in days:
            states = [
                DONE if (asset, day) in run.reported else _OF_STATUS.get(run.status, WAITING)
                for run in runs
                if run.has(asset, day)
            ]
            state = max(states, default=WAITING)
            found[asset][day] = FAILED if ended and state != DONE else state
    return found


def failed(days: Days) -> dict[str, str]:
    """Return the days that failed of each asset, as text: ``2024-08-09 to 2024-08-11, 2024-08-20``."""
    texts = {}
    for asset, states in days.items():
        numbers = sorted(date.fromisoformat(day).toordinal() for day, state in states.items() if state == FAILED)
        spans = []
        for _, group in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
            span = [date.fromordinal(number).isoformat() for _, number in group]
            spans.append(span[0] if len(span) == 1 else f"{span[0]} to {span[-1]}")
        if spans:
            texts[asset] = ", ".join(spans)
    return texts


def chart(days: Days, most_lines: int) -> Text:
    """Return a line of cells for each asset and month, below it what the cells mean, in at most ``most_lines`` lines.

    When there are too many, months in which all days are alike are only counted; the newest of the others stay.
    """
    lines = [(asset, month, of) for asset, states in days.items() for month, of in _months(states).items()]
    folded = Text()
    if len(lines) > most_lines - 1:
        alike = [states for _, _, states in lines if len(set(states.values())) == 1]
        lines = [line for line in lines if len(set(line[2].values())) > 1][-max(most_lines - 2, 1) :]
        for state, name in _NAMES.items():
            if count := sum(set(states.values()) == {state} for states in alike):
                folded.append(f"{', ' if folded else ''}{count} months {name}")
        folded.append("\n" if folded else "")
    wide, shown = max((len(asset) for asset in days), default=0), Text()
    for asset, month, states in lines:
        shown.append(f"{asset:<{wide}}  {month}  ")
        first = date.fromisoformat(f"{month}-01")
        for number in range(31):
            day = (first + timedelta(days=number)).isoformat()
            shown.append(*(_CELLS[states[day]] if day in states else (" ", "")))
        shown.append("\n")
    counts = [state for states in days.values() for state in states.values()]
    for state, name in _NAMES.items():
        shown.append(_CELLS[state][0], _CELLS[state][1]).append(f" {counts.count(state)} {name}  ")
    return folded + shown


def _months(states: Mapping[str, int]) -> dict[str, dict[str, int]]:
    months: dict[str, dict[str, int]] = {}
    for day, state in sorted(states.items()):
        months.setdefault(day[:7], {})[day] = state
    return months
