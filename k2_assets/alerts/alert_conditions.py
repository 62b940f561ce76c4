"""Conditions: what can be bad, by kind, and how a message describes it. Pure."""

from datetime import UTC, datetime
from enum import IntEnum
from typing import Final, Literal

import msgspec

Kind = Literal["check", "freshness", "run", "sensor", "kept_run", "feed"]
_RUNBOOK: Final[dict[Kind, str]] = {
    "check": "a-check-fails",
    "freshness": "an-asset-is-not-fresh",
    "run": "a-run-failed",
    "sensor": "a-sensor-or-schedule-fails",
    "kept_run": "the-drain-or-refine-does-not-work",
    "feed": "a-feed-is-in-trouble",
}
"""The sections of docs/alerts.md."""
_LONGEST: Final = 400  # characters of what was seen


class Severity(IntEnum):
    """How bad: a warning, or an error."""

    NONE = 0
    WARNING = 1
    ERROR = 2


class Condition(msgspec.Struct, frozen=True):
    """Something that is bad.

    Args:
        kind: of what.
        subject: an asset, a run's assets, a sensor, a kept run, a venue.
        severity: how bad it is.
        seen: what was seen, in a sentence.
        name: which of the subject's conditions: a check, a job, a state of a feed.
        partition: the day or days that it concerns.
        link: a path in Dagster's pages, or a whole URL.
        patience_s: only after so long is it worth a message.
        since_s: when it was seen, in seconds since 1970; 0: when the look was made.
        source: the id of the run or of the sensor in Dagster that it was seen in.
    """

    kind: Kind
    subject: str
    severity: Severity
    seen: str
    name: str = ""
    partition: str = ""
    link: str = ""
    patience_s: float = 0.0
    since_s: float = 0.0
    source: str = ""

    @property
    def key(self) -> str:
        """What stays the same while the condition lasts."""
        return "|".join((self.kind, self.subject, self.name, self.partition))

    @property
    def label(self) -> str:
        """The condition's name for people, as in "check fit_for_candles of gold_crypto_trades 2024-08-09"."""
        day = f" {self.partition}" if self.partition else ""
        return {
            "check": f"check {self.name} of {self.subject}{day}",
            "freshness": f"freshness of {self.subject}",
            "run": f"run of {self.subject}{day}",
            "sensor": f"{self.name} {self.subject}",
            "kept_run": self.subject,
            "feed": f"feed{f' of {self.subject}' if self.subject else ''}: {self.name}",
        }[self.kind]

    @property
    def runbook(self) -> str:
        """The anchor of its section in the runbook."""
        return _RUNBOOK[self.kind]


def sentence(text: str) -> str:
    """Return the first lines of a text as one line of bounded length."""
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"


def moment(at_s: float) -> str:
    """Return a moment (seconds since 1970) for people, as in "2024-08-09 12:00:05 UTC"."""
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
