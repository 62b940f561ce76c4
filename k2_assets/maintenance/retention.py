"""Remove the days of tables that their retention no longer keeps: whole files by name, one commit for each table.

Only what the layers above have taken in goes. The commit adds the days to the table's property of removed days, and
marks no rebuilt day: to the layers above nothing has happened.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import Final

import polars as pl
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table
from pyiceberg.table.refs import MAIN_BRANCH

from k2_assets.lake.rebuilt_days import Taken
from k2_assets.lake.rewrites import remove_files
from k2_assets.lake.source_files import Seen, live_files, read_files
from k2_assets.lake.table_lock import lock
from k2_assets.maintenance.history_thinning import is_automatic
from k2_assets.maintenance.retention_plan import Holds, Partition, plan
from k2_assets.reference.epoch_register import days_to_rebuild, epochs_table
from k2_core import clock
from k2_core.lake.manifests import BEGINNING_US
from k2_core.lake.planned_read import data_file
from k2_core.lake.removed_days import Range, RemovedDays
from k2_core.lake.retention_policy import TablePolicy
from k2_core.lake.tables import GOLD_TRADES, derived_from
from k2_core.logs import logger
from k2_core.offsets import Offsets

log = logger(__name__)

_WAIT_S: Final = 300.0
_EVENT_TIMES: Final = ("min_event_ts", "max_event_ts")
_FRAME: Final = ("topic_id", "kafka_partition", "kafka_offset")


@dataclass(frozen=True)
class Removal:
    """What retention does with a table, or would do: its old partitions, and whether those that go are removed."""

    table: str
    partitions: tuple[Partition, ...]
    done: bool = False

    @property
    def going(self) -> list[Partition]:
        """The partitions that nothing holds."""
        return [each for each in self.partitions if not each.held_by]


class TableRetention:
    """The retention of one table.

    Args:
        catalog: holds the table and the locks.
        namespace: of the table.
        policy: its own.
    """

    def __init__(self, catalog: Catalog, namespace: str, policy: TablePolicy) -> None:
        self._catalog = catalog
        self._namespace = namespace
        self._policy = policy
        self._spec = policy.spec
        self.table = policy.spec.name

    def dry_run(self) -> Removal:
        """Return what :meth:`run` would do; writes nothing."""
        return Removal(self._spec.name, tuple(self._plan(self._load(self._spec.name))))

    def run(self) -> Removal:
        """Remove what is old and what nothing holds.

        Raises:
            LockBusy: maintenance or a rebuild works on the table's files.
            LockLost: the lock was lost before the commit.
            CommitConflict: other writers replaced one of the files, or were first again and again.
        """
        name = self._spec.name
        with lock(self._catalog, f"files:{name}", _WAIT_S) as lease:
            found = self.dry_run()
            files = [data_file(each) for old in found.going for each in old.files]
            days = [day for old in found.going for day in old.days]
            if not files:
                return found

            def remember(table: Table) -> dict[str, str]:
                before = RemovedDays.of(table.properties)
                newest = table.current_snapshot()
                return before.with_days(days, newest.sequence_number or 0 if newest else 0).to_properties()

            remove_files(partial(self._load, name), lease, files, remember)
        rows = sum(old.rows for old in found.going)
        log.info("removed by retention", table=name, days=str(RemovedDays(days)), rows=rows, files=len(files))
        return Removal(name, found.partitions, done=True)

    def _load(self, name: str) -> Table:
        return self._catalog.load_table((self._namespace, name))

    def _plan(self, table: Table) -> list[Partition]:
        # What a person loads today of a day long ago counts from today.
        ingested = "ingestion_timestamp" if self._spec.timeframe is None else "updated_at"
        files = live_files(table, ingested, markets=True)
        holds = Holds(_tagged_days(table, ingested), self._event_days(table), partial(self._needed_above, table))
        return plan(self._policy, files, holds, clock.now_us())

    def _event_days(self, table: Table) -> dict[str, Range]:
        """Return the days of the trades or quotes in each file of frames; asked for only where there is a hold."""
        if not self._policy.holds or not set(_EVENT_TIMES) <= set(table.schema().column_names):
            return {}
        first, last = ({each.path: each for each in live_files(table, name)} for name in _EVENT_TIMES)
        return {
            path: (clock.from_us(each.first_us).date(), clock.from_us(last[path].last_us).date())
            for path, each in first.items()
            if each.first_us != BEGINNING_US  # all frames of the file are without a time
        }

    def _needed_above(self, table: Table, old: Partition) -> str | None:
        """Return why a layer above needs a partition; None when all have taken it in."""
        for name in derived_from(self._spec.name):
            follower = self._load(name)
            if self._spec.name.startswith("bronze_"):
                if _reaches_beyond(table, old, Offsets.from_properties(follower.properties)):
                    return f"{name} has not taken in all of it"
            elif Seen.of(follower).newer(table, list(old.files)):
                return f"{name} has not taken in all of it, or does not remember it"
            elif not Taken.of(follower).behind(table).isdisjoint(old.days):
                return f"{name} has not taken in its rebuild"
        return self._needed_by_epochs(old)

    def _needed_by_epochs(self, old: Partition) -> str | None:
        """Return whether ids began again on a day that is still to be rebuilt from a partition."""
        epochs = epochs_table(self._catalog, self._namespace)
        layer, _, rest = self._spec.name.partition("_")
        if epochs is None or layer not in {"bronze", "silver"} or not rest.endswith("_trades"):
            return None
        silver, bronze = (self._load(f"{each}_{rest}") for each in ("silver", "bronze"))
        waiting = days_to_rebuild(epochs, rest.removesuffix("_trades"), silver, bronze)
        if layer == "silver":
            waiting |= Taken.of(self._load(GOLD_TRADES.name)).behind(epochs)
            is_needed = not waiting.isdisjoint(old.days)
        else:
            is_needed = any(old.last >= day for day in waiting)  # frames of a day are received on it or later
        return "ids began again, and the days concerned are to be rebuilt from it" if is_needed else None


def _tagged_days(table: Table, time_column: str) -> dict[date, list[str]]:
    """Return the tags that name a file of each partition, by its first day; automatic tags hold nothing."""
    found: defaultdict[date, list[str]] = defaultdict(list)
    for name, ref in table.metadata.refs.items():
        if name == MAIN_BRANCH or is_automatic(name):
            continue
        for day in {each.day for each in live_files(table, time_column, snapshot_id=ref.snapshot_id)}:
            found[day].append(name)
    return found


def _reaches_beyond(bronze: Table, old: Partition, taken: Offsets) -> bool:
    """Return whether frames of a partition lie at or above the offsets that a follower has committed."""
    own = Offsets.from_properties(bronze.properties)
    if own and all((taken.get(*place) or 0) >= following for place, following in own.items()):
        return False  # it has taken in all of bronze
    return any(offset >= (taken.get(topic, part) or 0) for topic, part, offset in _last_offsets(bronze, old))


def _last_offsets(bronze: Table, old: Partition) -> Iterator[tuple[str, int, int]]:
    for file in old.files:
        rows = read_files(bronze, [file], _FRAME)
        yield from rows.group_by(_FRAME[:2]).agg(pl.col("kafka_offset").max()).iter_rows()
