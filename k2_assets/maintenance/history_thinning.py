"""Which snapshots of a table stay, and which tags of its history are made and lapse. Pure; times in ms since 1970."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from k2_core import clock

HOUR, DAY, MONTH = "hour", "day", "month"
_FORMATS: Final = {HOUR: "auto-hour-%Y-%m-%dT%H", DAY: "auto-day-%Y-%m-%d", MONTH: "auto-month-%Y-%m"}
_AUTOMATIC: Final = {
    HOUR: re.compile(r"auto-hour-\d{4}-\d\d-\d\dT\d\d", re.ASCII),
    DAY: re.compile(r"auto-day-\d{4}-\d\d-\d\d", re.ASCII),
    MONTH: re.compile(r"auto-month-\d{4}-\d\d", re.ASCII),
}
_LENGTH: Final = {HOUR: timedelta(hours=1), DAY: timedelta(days=1)}


@dataclass(frozen=True)
class Commit:
    """A state of the table: the snapshot that a commit ended in, and when."""

    snapshot_id: int
    at_ms: int


@dataclass(frozen=True)
class Keep:
    """How much of the history stays.

    Args:
        all_ms: every state of the last so many milliseconds.
        hours: the state at the end of each of so many hours.
        days: the same for days; that of each month stays for ever.
        settle_ms: a period is tagged so long after its end, when no commit of it can be under way any more.
    """

    all_ms: int
    hours: int = 24
    days: int = 30
    settle_ms: int = 60_000


@dataclass(frozen=True)
class Plan:
    """What is to be done to a table's history."""

    create: Mapping[str, int] = field(default_factory=dict)
    lapse: frozenset[str] = frozenset()
    expire: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Period:
    """An hour, a day or a month that has ended; its tag names the last state at or before ``end_ms``."""

    name: str
    end_ms: int


@dataclass(frozen=True)
class History:
    """A table's history as it stands.

    Args:
        commits: states of the table, oldest first; never the half of a transaction.
        snapshot_ids: all snapshots of the table, halves included.
        tags: the snapshot of each, by name.
        heads: the current snapshot, and those of other branches.
    """

    commits: list[Commit]
    snapshot_ids: frozenset[int]
    tags: Mapping[str, int]
    heads: frozenset[int]


def plan(history: History, keep: Keep, now_ms: int) -> Plan:
    """Return what is to be done now.

    A state that was the newest one at any moment of the last ``keep.all_ms`` stays, however long ago it was committed:
    somebody may hold a cursor to it, and ``as_of`` may ask for that moment.
    """
    commits, tags = history.commits, history.tags
    create, pending = _tags_to_make(commits, tags, keep, now_ms)
    lapse = frozenset(name for name in tags if _has_lapsed(name, keep, now_ms))
    staying = {snapshot_id for name, snapshot_id in tags.items() if name not in lapse}
    staying |= {*create.values(), *pending, *history.heads, *_recent(commits, now_ms - keep.all_ms)}
    return Plan(create, lapse, history.snapshot_ids - staying)


def is_automatic(name: str) -> bool:
    """Tell whether a tag has the name of one that is made by itself; those lapse, all others never do."""
    return any(pattern.fullmatch(name) for pattern in _AUTOMATIC.values())


def periods(kind: str, first_ms: int, now_ms: int) -> Iterator[Period]:
    """Yield the periods of a kind that hold or follow ``first_ms`` and have ended by ``now_ms``, oldest first."""
    start = _start(kind, clock.from_us(first_ms * 1000))
    while (end_ms := _ms(_end(kind, start))) <= now_ms:
        yield Period(start.strftime(_FORMATS[kind]), end_ms)
        start = _end(kind, start)


def _tags_to_make(
    commits: list[Commit], tags: Mapping[str, int], keep: Keep, now_ms: int
) -> tuple[dict[str, int], set[int]]:
    """Return the tags to make, and the states of periods that have only just ended."""
    create: dict[str, int] = {}
    pending: set[int] = set()
    if not commits:
        return create, pending
    for kind in (HOUR, DAY, MONTH):
        # Of a period before the newest tagged one the true last state may be gone: its tag was deleted by somebody.
        tagged_until_ms = max((_end_of(name) for name in tags if _AUTOMATIC[kind].fullmatch(name)), default=0)
        since_ms = max(commits[0].at_ms, _kept_since(kind, keep, now_ms))
        for period in periods(kind, since_ms, now_ms):
            state = _state_at(commits, period.end_ms)
            if state is None or period.end_ms <= tagged_until_ms:
                continue
            if period.end_ms + keep.settle_ms <= now_ms:
                create[period.name] = state
            else:
                pending.add(state)
    return create, pending


def _recent(commits: list[Commit], since_ms: int) -> set[int]:
    state = _state_at(commits, since_ms)
    return {each.snapshot_id for each in commits if each.at_ms > since_ms} | ({state} if state is not None else set())


def _state_at(commits: list[Commit], moment_ms: int) -> int | None:
    """Return the last state at or before a moment; None when the table is younger."""
    found = None
    for each in commits:
        if each.at_ms > moment_ms:
            break
        found = each.snapshot_id
    return found


def _has_lapsed(name: str, keep: Keep, now_ms: int) -> bool:
    for kind in (HOUR, DAY):
        if _AUTOMATIC[kind].fullmatch(name):
            return 0 < _end_of(name) <= _kept_since(kind, keep, now_ms)
    return False


def _kept_since(kind: str, keep: Keep, now_ms: int) -> int:
    """Return the moment from which on periods that ended are tagged."""
    if kind == MONTH:
        return 0
    return now_ms - int(_LENGTH[kind].total_seconds()) * 1000 * (keep.hours if kind == HOUR else keep.days)


def _end_of(name: str) -> int:
    """Return when the period of an automatic tag ended; 0 when there is no such period."""
    for kind, pattern in _AUTOMATIC.items():
        if pattern.fullmatch(name):
            try:
                start = datetime.strptime(name, _FORMATS[kind]).replace(tzinfo=UTC)
            except ValueError:
                return 0
            return _ms(_end(kind, start))
    return 0


def _start(kind: str, moment: datetime) -> datetime:
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    if kind == MONTH:
        return midnight.replace(day=1)
    return midnight.replace(hour=moment.hour) if kind == HOUR else midnight


def _end(kind: str, start: datetime) -> datetime:
    if kind == MONTH:
        return (start + timedelta(days=32)).replace(day=1)
    return start + _LENGTH[kind]


def _ms(moment: datetime) -> int:
    return clock.to_us(moment) // 1000
