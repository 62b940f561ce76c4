"""Named tags: names that people give to states of tables, which then stay until the tag is deleted."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.refs import SnapshotRefType
from pyiceberg.table.snapshots import Snapshot
from sqlalchemy.exc import SQLAlchemyError

from k2_assets.lake.table_history import add_tag, delete_tag, remove_tag
from k2_assets.lake.table_lock import lock
from k2_assets.maintenance.fitting_states import moment, newest_until_ms, state_at
from k2_assets.maintenance.history_thinning import is_automatic
from k2_assets.maintenance.table_round import keep_all_ms
from k2_core import clock
from k2_core.errors import K2Error, TagRefused
from k2_core.lake.tables import GOLD_TRADES, SERVED, all_tables
from k2_core.leases import Lease
from k2_core.settings import Maintenance
from k2_core.venues import VENUES

_WAIT_S: Final = 60.0


@dataclass(frozen=True)
class Tagged:
    """A tag of one table: which snapshot it names, when that was committed, and how many rows it has."""

    tag: str
    table: str
    snapshot_id: int
    committed_at: str
    rows: int


@dataclass(frozen=True)
class AsOf:
    """Which states are asked for.

    Args:
        text: as a person wrote it: a tag, a snapshot id or a time; None: the newest.
        find: returns the state of a table that it means, or None.
        moment_ms: the time, if it is one.
    """

    text: str | None
    find: Callable[[TableMetadata], Snapshot | None]
    moment_ms: int | None = None


class NamedTags:
    """The named tags of a lake.

    Args:
        catalog: holds the tables and the locks.
        namespace: of the tables.
        maintenance: for how long every state is kept.
    """

    def __init__(self, catalog: Catalog, namespace: str, maintenance: Maintenance) -> None:
        self._catalog = catalog
        self._namespace = namespace
        self._maintenance = maintenance

    def create(self, name: str, tables: Sequence[str], as_of: AsOf) -> tuple[list[Tagged], list[str]]:
        """Tag states that fit together, of every table or of none.

        The first table decides: trades if they are among them. Of the others the newest state is tagged that was
        committed while the chosen state of the first was still its newest: candles then hold what was built from these
        trades, and nothing of later ones. A table that has the tag that ``as_of`` names gets the state of that tag.
        Where other tables have ``name`` already, and ``as_of`` names nothing, these decide.

        Args:
            name: that :func:`~k2_assets.maintenance.tag_names.why_refused` accepts.
            tables: by name; none: those that the API serves, as far as they have rows.
            as_of: which states.

        Returns:
            What was tagged, and the tables that had no rows yet and got no tag.

        Raises:
            TagRefused: the tag exists, there is no such table or state, or not every table could be tagged.
            LockBusy: the history of a table was being changed for a minute.
        """
        wanted = tables or [spec.name for spec in SERVED if self._table(spec.name) is not None]
        self._require(wanted)
        with ExitStack() as locks:
            # All are locked before the first is looked at, in one order: nothing of them expires until all are tagged,
            # and two commands never wait for each other.
            leases = {
                each: locks.enter_context(lock(self._catalog, f"history:{each}", _WAIT_S)) for each in sorted(wanted)
            }
            now_ms = clock.now_ns() // clock.NS_PER_MS
            states = self._states(name, wanted, as_of, now_ms)
            found = {table: state for table, state in states.items() if state is not None}
            empty = [table for table, state in states.items() if state is None]
            if empty and (tables or not found):
                msg = f"{', '.join(empty)}: no rows at that moment, so there is nothing to tag; `k2 status` shows rows"
                raise TagRefused(msg)
            self._tag(name, found, leases)
        return [_tagged(name, table, state) for table, state in found.items()], empty

    def delete(self, name: str, tables: Sequence[str] = ()) -> list[Tagged]:
        """Delete a tag of some tables or of all; the snapshots expire with the next maintenance.

        Raises:
            TagRefused: it is an automatic tag, or none of the tables has it.
            LockBusy: the history of a table was being changed for a minute; the tables before it have lost the tag.
        """
        if is_automatic(name):
            msg = f"{name} is an automatic tag, which maintenance deletes by itself when its time has come"
            raise TagRefused(msg)
        found = [each for each in self.listed(tables) if each.tag == name]
        if not found:
            of_these = f"of {', '.join(tables)} " if tables else ""
            msg = f"no tag {of_these}is called {name}: `k2 tag list` shows those that there are"
            raise TagRefused(msg)
        for each in found:
            delete_tag(self._catalog, (self._namespace, each.table), name, _WAIT_S)
        return found

    def listed(self, tables: Sequence[str] = (), *, automatic: bool = False) -> list[Tagged]:
        """Return the tags of some tables or of all, by name, and of each in the order in which data flow.

        Raises:
            TagRefused: there is no such table.
        """
        self._require(tables)
        found = []
        for spec in all_tables(tuple(VENUES)):
            table = self._table(spec.name) if not tables or spec.name in tables else None
            for name, snapshot_id in _tags(table).items():
                state = table.metadata.snapshot_by_id(snapshot_id) if table is not None else None
                if state is not None and (automatic or not is_automatic(name)):
                    found.append(_tagged(name, spec.name, state))
        return sorted(found, key=lambda each: each.tag)

    def _states(self, name: str, wanted: Sequence[str], as_of: AsOf, now_ms: int) -> dict[str, Snapshot | None]:
        """Return the state of each table that is to be tagged; None where it had none yet."""
        in_order = sorted(wanted, key=lambda each: each != GOLD_TRADES.name)
        every = dict.fromkeys([*in_order, *(spec.name for spec in SERVED)])
        loaded = {each: table for each in every if (table := self._table(each)) is not None}
        having = [each for each in loaded if name in loaded[each].metadata.refs]
        if not set(having).isdisjoint(wanted):
            msg = (
                f"tag {name} exists already, of {', '.join(having)}: choose another name, delete it first with "
                f"`k2 tag delete {name}`, or name with --table the tables that are to have it as well"
            )
            raise TagRefused(msg)
        if having and as_of.text is None:  # the rest of a dataset: it has to fit the tables that have the tag
            as_of = AsOf(name, lambda metadata: metadata.snapshot_by_name(name))
        # A tag or an id may be known to tables that are served and not asked for; a time means the first that is.
        asked = in_order[:1] if as_of.text is None or as_of.moment_ms is not None else list(loaded)
        first = next((each for each in asked if as_of.find(loaded[each].metadata)), None)
        if first is None:
            raise TagRefused(_nothing_to_tag(as_of, in_order))
        metadata = loaded[first].metadata
        chosen = as_of.find(metadata)
        assert chosen is not None  # noqa: S101  # of the first that has one
        until_ms = newest_until_ms(metadata, chosen, now_ms)
        if as_of.moment_ms is not None:
            until_ms = max(chosen.timestamp_ms, min(until_ms, as_of.moment_ms))
        states: dict[str, Snapshot | None] = {}
        for each in in_order:
            metadata = loaded[each].metadata
            if each == first or as_of.text in _tags(loaded[each]):
                states[each] = as_of.find(metadata)
            else:
                states[each] = state_at(each, metadata, until_ms, now_ms - keep_all_ms(each, self._maintenance))
        return states

    def _tag(self, name: str, states: Mapping[str, Snapshot], leases: Mapping[str, Lease]) -> None:
        done: list[str] = []
        try:
            for table, state in states.items():
                done.append(table)  # an error may come after the commit
                add_tag(self._loader(table), leases[table], name, state.snapshot_id)
        except (K2Error, SQLAlchemyError, OSError, KeyboardInterrupt) as error:
            left = self._taken_back(name, done, leases)
            outcome = (
                f"and could not be taken back from {', '.join(left)}: delete it with `k2 tag delete {name}`"
                if left
                else "so no table has it now: try again"
            )
            msg = f"{done[-1]} could not be tagged ({error or 'interrupted'}), {outcome}"
            raise TagRefused(msg) from error

    def _taken_back(self, name: str, tables: Iterable[str], leases: Mapping[str, Lease]) -> list[str]:
        """Remove the tag again; return the tables where that failed."""
        left = []
        for table in tables:
            try:
                remove_tag(self._loader(table), leases[table], name)
            except (K2Error, SQLAlchemyError, OSError):
                left.append(table)
        return left

    def _loader(self, table: str) -> Callable[[], Table]:
        return lambda: self._catalog.load_table((self._namespace, table))

    def _table(self, name: str) -> Table | None:
        try:
            return self._catalog.load_table((self._namespace, name))
        except NoSuchTableError:
            return None

    def _require(self, tables: Iterable[str]) -> None:
        for each in tables:
            if self._table(each) is None:
                msg = f"there is no table {each} in this lake: `k2 tables list` shows those that there are"
                raise TagRefused(msg)


def _nothing_to_tag(as_of: AsOf, tables: Sequence[str]) -> str:
    if as_of.text is None or as_of.moment_ms is not None:
        return f"{tables[0]} has no rows yet, so there is nothing to tag; `k2 status` shows rows"
    return (
        f"{as_of.text!r} is neither a tag nor a snapshot id of these tables, nor a time such as 2024-08-08T23:55:00Z; "
        "`k2 tag list --all` shows the tags"
    )


def _tags(table: Table | None) -> dict[str, int]:
    refs = table.metadata.refs if table is not None else {}
    return {name: ref.snapshot_id for name, ref in refs.items() if ref.snapshot_ref_type == SnapshotRefType.TAG}


def _tagged(name: str, table: str, state: Snapshot) -> Tagged:
    counts = state.summary.additional_properties if state.summary is not None else {}
    return Tagged(name, table, state.snapshot_id, moment(state), int(counts.get("total-records", 0)))
