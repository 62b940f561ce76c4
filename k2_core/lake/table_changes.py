"""How a table that exists differs from its TableSpec, and the commits that end that. No row is touched.

A difference is small when every reader and writer of the table goes on as before: a property, or a new column without
values. ``k2 up`` ends these. ``k2 tables migrate`` ends the others, as far as Iceberg can. What a user added, such as
another property or another column, is no difference.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from pyiceberg.exceptions import CommitFailedException, CommitStateUnknownException
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table, Transaction
from pyiceberg.table.update.schema import UpdateSchema
from pyiceberg.types import DecimalType, DoubleType, FloatType, IntegerType, LongType, NestedField

from k2_core.lake.commit_attempts import until_committed
from k2_core.lake.table_spec import TableSpec


@dataclass(frozen=True)
class Change:
    """One difference, and what ends it.

    Args:
        what: what is to be done, as ``add column reason (string)``; if nothing can be done, why.
        apply: stages it in a transaction; None when Iceberg cannot do it in place.
        small: whether ``k2 up`` does it.
    """

    what: str
    apply: Callable[[Transaction], object] | None = None
    small: bool = False


def properties_of(spec: TableSpec) -> dict[str, str]:
    """Return the properties of a spec's table; the version of Iceberg's format is none of them once it is made."""
    return {**spec.properties, "comment": spec.doc}


def changes(table: Table, spec: TableSpec) -> list[Change]:
    """Return what the table needs to be as its spec says: columns, then partitions, then properties."""
    schema = table.schema()
    found = [change for field in spec.schema.fields for change in _of_column(schema, field)]
    found += _of_partitions(table.spec(), schema, spec)
    wanted = {name: value for name, value in properties_of(spec).items() if name != "format-version"}
    differing = {name: value for name, value in wanted.items() if table.properties.get(name) != value}
    if differing:
        names = ", ".join(sorted(differing))
        found.append(Change(f"set {names}", lambda tx: tx.set_properties(differing), small=True))
    return found


def apply_changes(load: Callable[[], Table], spec: TableSpec, wanted: Callable[[Change], bool]) -> list[Change]:
    """Make the wanted changes in one commit, beside other writers; nothing is committed when there is none.

    Args:
        load: loads the table's newest state.
        spec: of that table.
        wanted: chooses among the changes that can be made.

    Returns:
        The changes that are left: those that were not wanted, and those that Iceberg cannot make.

    Raises:
        CommitConflict: other writers were first again and again.
    """

    def attempt(table: Table) -> list[Change] | None:
        # From the newest state at every attempt: what another process has done meanwhile differs no more.
        left = changes(table, spec)
        due = [change for change in left if change.apply is not None and wanted(change)]
        if not due:  # also when the answer to the last commit was lost, and when another process was first
            return left
        transaction = table.transaction()
        for change in due:
            change.apply(transaction)  # type: ignore[misc]  # those without were left out
        with suppress(CommitFailedException, CommitStateUnknownException):
            transaction.commit_transaction()
        return None  # the newest state says what is left

    return until_committed(load, attempt)


def _of_column(schema: Schema, wanted: NestedField) -> list[Change]:
    name = wanted.name
    current = next((field for field in schema.fields if field.name == name), None)
    if current is None and wanted.required:
        return [Change(f"column {name} is missing and may not be null: its rows have no value for it")]
    if current is None:
        add = _evolve(lambda schema: schema.add_column(name, wanted.field_type, wanted.doc))
        return [Change(f"add column {name} ({wanted.field_type})", add, small=True)]
    found = []
    if current.required and not wanted.required:
        found.append(Change(f"let {name} be null", _evolve(lambda schema: schema.make_column_optional(name))))
    if wanted.required and not current.required:
        found.append(Change(f"column {name} may not be null any more: its rows may have none"))
    if str(current.field_type) != str(wanted.field_type):  # the text leaves out the ids of nested fields
        now, then = current.field_type, wanted.field_type
        # By Iceberg's rules of schema evolution, which widen a type so far that every value of it stays one.
        if isinstance(now, DecimalType) and isinstance(then, DecimalType):
            widens = now.scale == then.scale and now.precision < then.precision
        else:
            widens = (type(now), type(then)) in {(IntegerType, LongType), (FloatType, DoubleType)}
        if widens:
            widen = _evolve(lambda schema: schema.update_column(name, then))
            found.append(Change(f"widen {name} from {now} to {then}", widen))
        else:
            what = f"column {name} is {now} and should be {then}: Iceberg cannot turn the one into the other"
            found.append(Change(what))
    return found


def _evolve(stage: Callable[[UpdateSchema], object]) -> Callable[[Transaction], None]:
    """Return what stages one change of the schema in a transaction."""

    def apply(transaction: Transaction) -> None:
        with transaction.update_schema() as update:
            stage(update)

    return apply


def _of_partitions(current: PartitionSpec, schema: Schema, spec: TableSpec) -> list[Change]:
    now = {(schema.find_column_name(each.source_id), str(each.transform)): each.name for each in current.fields}
    then = {
        (spec.schema.find_column_name(each.source_id), str(each.transform)): each.name
        for each in spec.partition_spec.fields
    }
    if now.keys() == then.keys():
        return []
    # Fields are compared by column and transform, whatever their names. Files that exist keep the partitions that they
    # were written with; the new spec is for those to come.
    gone = [name for key, name in now.items() if key not in then]
    come = [
        (str(column), transform, name) for (column, transform), name in then.items() if (column, transform) not in now
    ]
    missing = [column for column, _, _ in come if column not in schema.column_names]
    if missing:
        return [Change(f"partition by {', '.join(then.values())}: column {missing[0]} is to be added first")]

    def apply(transaction: Transaction) -> None:
        with transaction.update_spec() as update:
            for name in gone:
                update.remove_field(name)
            for column, transform, name in come:
                update.add_field(column, transform, name)

    what = f"partition new rows by {', '.join(then.values())} in place of {', '.join(gone) or 'nothing'}"
    return [Change(what, apply)]
