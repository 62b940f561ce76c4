"""How much of what a venue sends is rejected: of a day, and of the last minutes as the drain commits them. Pure."""

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import polars as pl

from k2_assets.orchestration.verdict import SAMPLE_ROWS, Verdict, percent, seconds

NAME: Final = "reject_rate"
WARNING: Final = 0.001
ERROR: Final = 0.01
WINDOW_S: Final = 300.0
RECENT_S: Final = 30.0
SAMPLED: Final = ("reason", "error", "kafka_topic", "kafka_partition", "kafka_offset")
_ERROR_TEXT: Final = 200  # characters: an error may quote a whole frame


@dataclass(frozen=True)
class Rejects:
    """What became of some messages: rows of silver, rejected rows by reason, and some of the rejected ones."""

    silver_rows: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    samples: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=dict.fromkeys(SAMPLED, pl.String)))

    @classmethod
    def of(cls, silver_rows: int, rejected: pl.DataFrame) -> "Rejects":
        """Count rejected rows, with :data:`SAMPLED`; one of each reason is sampled before a second of any."""
        by_reason = rejected.with_columns(pl.int_range(pl.len()).over("reason").alias("turn")).sort("turn", "reason")
        shown = by_reason.head(SAMPLE_ROWS).select(SAMPLED).cast(pl.String)
        shortened = shown.with_columns(pl.col("error").str.slice(0, _ERROR_TEXT))
        return cls(silver_rows, Counter(rejected["reason"].to_list()), shortened)

    @classmethod
    def together(cls, parts: Iterable["Rejects"]) -> "Rejects":
        """Return all parts together, with the samples of the last ones."""
        every = list(parts)
        reasons: Counter[str] = sum((each.reasons for each in every), Counter())
        samples = pl.concat([cls().samples, *(each.samples for each in reversed(every))]).head(SAMPLE_ROWS)
        return cls(sum(each.silver_rows for each in every), reasons, samples)

    @property
    def rows(self) -> int:
        return self.silver_rows + self.reasons.total()

    @property
    def share(self) -> float:
        return self.reasons.total() / self.rows if self.rows else 0.0

    def verdict(self, when: str, recently: "Rejects | None" = None) -> Verdict:
        """Judge the share: more than 0.1 % is a warning, more than 1 % an error.

        Args:
            when: the rows came, for the sentence.
            recently: the newest of the rows, whose share must be as large: what has ended is no fault any more.
        """
        share = self.share if recently is None else min(self.share, recently.share)
        often_first = sorted(self.reasons.items(), key=lambda each: (-each[1], each[0]))
        named = ", ".join(f"{count:,} {reason}" for reason, count in often_first)
        said = f"{self.reasons.total():,} of {self.rows:,} rows {when} were rejected"
        said += f" ({percent(self.share, 1)}): {named}" if named else ""
        if recently is not None and share < self.share:
            said += f"; of the last {seconds(RECENT_S)} {recently.reasons.total():,} of {recently.rows:,}"
        return Verdict(
            passed=share <= WARNING,
            sentence=f"{said}.",
            counts={"rows": self.rows, "rejected": self.reasons.total(), **self.reasons},
            samples=self.samples,
            severity="error" if share > ERROR else "warning",
        )


class LastMinutes:
    """What was committed in the last five minutes.

    It fails with the first commit of many bad rows, and passes half a minute after the last one, when good rows follow.
    """

    def __init__(self) -> None:
        self._commits: deque[tuple[float, Rejects]] = deque()

    def add(self, committed: Rejects, now_s: float) -> Verdict:
        """Take in a commit and judge.

        Args:
            committed: at least one row.
            now_s: of a clock that never goes back.
        """
        self._commits.append((now_s, committed))
        while now_s - self._commits[0][0] >= WINDOW_S:
            self._commits.popleft()
        recent = Rejects.together(each for at_s, each in self._commits if now_s - at_s < RECENT_S)
        return Rejects.together(each for _, each in self._commits).verdict(f"of the last {seconds(WINDOW_S)}", recent)
