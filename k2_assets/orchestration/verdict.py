"""What a check found: whether it passes, a sentence, counts and a few rows. It knows no Dagster."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

import polars as pl

Severity = Literal["warning", "error"]
SAMPLE_ROWS: Final = 5
"""At most so many rows are shown of what a check found."""


@dataclass(frozen=True)
class Verdict:
    """A check's result.

    Args:
        passed: whether what is checked holds.
        sentence: what the check saw, for a person.
        counts: numbers and short texts by name.
        samples: rows of what was found, the worst first; only :data:`SAMPLE_ROWS` are shown.
        severity: of a failure.
    """

    passed: bool
    sentence: str
    counts: Mapping[str, int | float | str] = field(default_factory=dict)
    samples: pl.DataFrame = field(default_factory=pl.DataFrame)
    severity: Severity = "warning"


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, as in a sentence: ``no trade``, ``1 trade``, ``1,234 trades``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}" if number else f"no {noun}"


def lie(number: int) -> str:
    """Return the verb that follows a counted noun: no trade lies, 1 trade lies, 2 trades lie."""
    return "lies" if number <= 1 else "lie"


def are(number: int) -> str:
    """Return the verb that follows a counted noun: no trade is, 1 trade is, 2 trades are."""
    return "is" if number <= 1 else "are"


def percent(part: float, whole: float) -> str:
    """Return a share with two digits that count: ``0.025 %``, ``12 %``, ``0 %``."""
    return f"{100 * part / whole if whole else 0:.2g} %".replace("1e+02", "100")


def seconds(duration_s: float) -> str:
    """Return a duration as a person says it: ``0.25 s``, ``90 s``, ``12 min``, ``3.5 h``, ``2 days``."""
    for limit, unit, name in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if abs(duration_s) < limit:
            number = round(duration_s / unit, 2 if unit == 1 else 1)
            return f"{number:g} {name}"
    return f"{round(duration_s / 86_400):,} days"
