"""Which snapshots of a table stay, and which tags of its history are created and lapse. Pure; times in ms since 1970.

Every recent state stays. Of older times the last state of each hour, day and month gets a tag, and stays while its tag
does.
"""

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
        settle_ms: a period is tagged so long after its end, when no commit of it can still be under way.
    """

    all_ms: int
    hours: int = 24
    days: int = 30
    settle_ms: int = 60_000


@dataclass(frozen=True)
class Plan:
    """What to do to a table's history: tags to create, tags to drop, snapshots to expire."""

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
    """A table's history.

    Args:
        commits: states of the table, oldest first; never the half of a transaction.
        snapshot_ids: all snapshots of the table, halves included.
        tags: the snapshot of each, by name.
        heads: the current snapshot, and those of other branches.
        outdated: states with files that retention has removed since: they get no automatic tag, and lose those that
            they have, or the files would stay for as long as the tag.
    """

    commits: list[Commit]
    snapshot_ids: frozenset[int]
    tags: Mapping[str, int]
    heads: frozenset[int]
    outdated: frozenset[int] = frozenset()


def is_automatic(tag: str) -> bool:
    """Return whether a tag is one of those that are created and lapse by themselves."""
    return period_end_ms(tag) is not None


def period_end_ms(tag: str) -> int | None:
    """Return when the period of an automatic tag ended: until then the tagged state was the newest."""
    found = _period_of(tag)
    return found[1] if found is not None and found[1] > 0 else None


def plan(history: History, keep: Keep, now_ms: int) -> Plan:
    """Return what to do now."""
    commits, tags = history.commits, history.tags
    create, pending = _tags_to_create(commits, tags, keep, now_ms)
    create = {name: state for name, state in create.items() if state not in history.outdated}
    pending -= history.outdated
    lapse = frozenset(
        name
        for name, state in tags.items()
        if (of := _period_of(name))
        and of[1] > 0
        and (of[1] <= _kept_since(of[0], keep, now_ms) or state in history.outdated)
    )
    staying = {snapshot_id for name, snapshot_id in tags.items() if name not in lapse}
    staying |= {*create.values(), *pending, *history.heads}
    # A state that was the newest one at any moment of the last ``keep.all_ms`` stays, however old it is: somebody may
    # hold a cursor to it, and ``as_of`` may ask for that moment.
    recent_ms = now_ms - keep.all_ms
    staying |= {each.snapshot_id for each in commits if each.at_ms > recent_ms}
    oldest = _state_at(commits, recent_ms)
    staying |= set() if oldest is None else {oldest}
    return Plan(create, lapse, history.snapshot_ids - staying)


def periods(kind: str, first_ms: int, now_ms: int) -> Iterator[Period]:
    """Yield the periods of a kind that hold or follow ``first_ms`` and have ended by ``now_ms``, oldest first."""
    start = clock.from_us(first_ms * 1000).replace(minute=0, second=0, microsecond=0)
    if kind != HOUR:
        start = start.replace(hour=0, day=1 if kind == MONTH else start.day)
    while (end_ms := _end_ms(kind, start)) <= now_ms:
        yield Period(start.strftime(_FORMATS[kind]), end_ms)
        start = clock.from_us(end_ms * 1000)


def _tags_to_create(
    commits: list[Commit], tags: Mapping[str, int], keep: Keep, now_ms: int
) -> tuple[dict[str, int], set[int]]:
    """Return the tags to create, and the states of periods that have only just ended, which get theirs later."""
    create: dict[str, int] = {}
    pending: set[int] = set()
    if not commits:
        return create, pending
    ended = [found for name in tags if (found := _period_of(name))]
    for kind in (HOUR, DAY, MONTH):
        # An older period than the newest tagged one gets no tag: somebody deleted it, and its last state may be gone.
        tagged_until_ms = max((end_ms for of, end_ms in ended if of == kind), default=0)
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


def _state_at(commits: list[Commit], moment_ms: int) -> int | None:
    """Return the last state at or before a moment; None when the table is younger."""
    found = None
    for each in commits:
        if each.at_ms > moment_ms:
            break
        found = each.snapshot_id
    return found


def _kept_since(kind: str, keep: Keep, now_ms: int) -> int:
    """Return since when a period must have ended to keep its tag; tags of months never lapse."""
    if kind == MONTH:
        return 0
    return now_ms - int(_LENGTH[kind].total_seconds()) * 1000 * (keep.hours if kind == HOUR else keep.days)


def _period_of(name: str) -> tuple[str, int] | None:
    """Return the kind of an automatic tag, and when its period ended: 0 for a date that does not exist."""
    for kind, pattern in _AUTOMATIC.items():
        if pattern.fullmatch(name):
            try:
                return kind, _end_ms(kind, datetime.strptime(name, _FORMATS[kind]).replace(tzinfo=UTC))
            except ValueError:
                return kind, 0
    return None


def _end_ms(kind: str, start: datetime) -> int:
    end = (start + timedelta(days=32)).replace(day=1) if kind == MONTH else start + _LENGTH[kind]
    return clock.to_us(end) // 1000
