"""Which partitions of a table retention removes, and why others stay that are old enough. Pure.

A partition, a day or a month of a table, goes as a whole or not at all: one held row keeps all of it.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta

from k2_core.lake.manifests import LakeFile, PartitionUnit
from k2_core.lake.removed_days import Range
from k2_core.lake.retention_policy import TablePolicy, may_hold
from k2_core.timeframes import DAY_US

_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Partition:
    """A partition whose last row was ingested long enough ago; it goes if nothing holds it.

    Args:
        first: its first day.
        last: its last day.
        files: all of it.
        held_by: why it stays, in words.
    """

    first: date
    last: date
    files: tuple[LakeFile, ...]
    held_by: tuple[str, ...] = ()

    @property
    def days(self) -> list[date]:
        """Every day of it."""
        return [self.first + number * _DAY for number in range((self.last - self.first).days + 1)]

    @property
    def rows(self) -> int:
        """The rows of its files."""
        return sum(each.rows for each in self.files)

    @property
    def size_bytes(self) -> int:
        """The size of its files."""
        return sum(each.size_bytes for each in self.files)


@dataclass(frozen=True)
class Holds:
    """What may keep an old partition of a table.

    Args:
        tags: names of tags by the first day of each partition of which they name a file.
        event_days: of a table that is partitioned by receipt, the days of the trades or quotes in a file, by its path.
            What has no time of its own counts by its receipt alone.
        needed_above: returns why a layer above still needs files, or None.
    """

    tags: Mapping[date, Iterable[str]]
    event_days: Mapping[str, Range]
    needed_above: Callable[[Partition], str | None] = lambda _: None


def plan(policy: TablePolicy, files: Iterable[LakeFile], holds: Holds, now_us: int) -> list[Partition]:
    """Return the partitions that are old enough, oldest first: those that go, and those that something holds.

    Args:
        policy: of the table.
        files: all live ones, with the bounds of when their rows were ingested.
        holds: what may keep them.
        now_us: the time, µs since 1970.
    """
    by_day: defaultdict[date, list[LakeFile]] = defaultdict(list)
    for each in files:
        by_day[each.day].append(each)
    until_us, found = now_us - policy.days * DAY_US, []
    for day, members in sorted(by_day.items()):
        if day == date.min or any(each.last_us >= until_us for each in members):
            continue
        old = Partition(day, _last_day(day, policy.spec.partition_unit), tuple(members))
        why = [f"tag {name}" for name in sorted(set(holds.tags.get(day, ())))]
        why += sorted({f"legal hold: {reason}" for reason in _reasons(policy, old, holds.event_days)})
        # What the layers above have taken in is asked last: that may take reading.
        needed = None if why else holds.needed_above(old)
        why += [] if needed is None else [needed]
        found.append(Partition(old.first, old.last, old.files, tuple(why)))
    return found


def _reasons(policy: TablePolicy, old: Partition, event_days: Mapping[str, Range]) -> Iterable[str]:
    for hold in policy.holds:
        for each in old.files:
            spans = ((old.first, old.last), *([event_days[each.path]] if each.path in event_days else []))
            if may_hold(hold, each) and any(a <= hold.last and b >= hold.first for a, b in spans):
                yield hold.reason


def _last_day(first: date, unit: PartitionUnit) -> date:
    return first if unit == "day" else (first + 31 * _DAY).replace(day=1) - _DAY
