"""Tables that an earlier K2 made become what their specs say, beside writers, and keep all that they hold."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.table import Table
from pyiceberg.types import BinaryType, DecimalType, IcebergType, IntegerType, LongType, StringType, TimestamptzType

from k2_core.lake.catalog import change_table, ensure_tables, open_catalog
from k2_core.lake.table_changes import apply_changes, changes
from k2_core.lake.table_spec import DRAINED, MAP_OF_TEXTS, Column, TableSpec
from k2_core.settings import Settings

NAMESPACE = "market_data"
NOON = datetime(2024, 8, 8, 12, tzinfo=UTC)
ID = Column("id", IntegerType(), "its number")
PRICE = Column("price", DecimalType(18, 8), "its price")
AT = Column("at", TimestamptzType(), "when it happened")
NOTE = Column("note", StringType(), "a remark", required=False)
MORE = Column("more", MAP_OF_TEXTS, "all the rest", required=False)
METRICS = "write.metadata.metrics.column.id"
EARLIER = TableSpec("trades", "As it was.", (ID, PRICE, AT), "at", {**DRAINED, METRICS: "counts"})
LATER = replace(
    EARLIER,
    doc="As it is.",
    columns=(ID, NOTE, PRICE, MORE, AT),
    properties={**DRAINED, METRICS: "full", "write.parquet.row-group-limit": "1000"},
)


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    made = open_catalog(Settings(home=tmp_path))
    ensure_tables(made, NAMESPACE, [EARLIER])
    append(made, {"id": 1, "price": Decimal(1), "at": NOON})
    return made


def load(catalog: Catalog) -> Table:
    return catalog.load_table((NAMESPACE, EARLIER.name))


def append(catalog: Catalog, *rows: dict[str, Any]) -> None:
    schema = schema_to_pyarrow(load(catalog).schema(), include_field_ids=False)
    fields = [schema.field(name) for name in rows[0]]
    load(catalog).append(pa.Table.from_pylist(list(rows), schema=pa.schema(fields)))


def rows_of(catalog: Catalog) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = load(catalog).scan().to_arrow().sort_by("id").to_pylist()
    return found


def with_column(column: Column) -> TableSpec:
    return replace(EARLIER, columns=tuple(column if each.name == column.name else each for each in EARLIER.columns))


def said(catalog: Catalog, spec: TableSpec) -> list[str]:
    return [change.what for change in changes(load(catalog), spec)]


def test_a_start_adds_columns_and_sets_properties_and_touches_no_row(catalog: Catalog) -> None:
    before = load(catalog)

    left = ensure_tables(catalog, NAMESPACE, [LATER])

    after = load(catalog)
    assert left == {}
    assert [field.name for field in after.schema().fields] == ["id", "price", "at", "note", "more"]
    assert {name: after.properties[name] for name in LATER.properties if name != "format-version"} == {
        name: value for name, value in LATER.properties.items() if name != "format-version"
    }
    assert after.properties["comment"] == LATER.doc
    assert after.schema().find_field("note").doc == NOTE.doc
    assert after.metadata.snapshots == before.metadata.snapshots
    assert rows_of(catalog) == [{"id": 1, "price": Decimal(1), "at": NOON, "note": None, "more": None}]
    append(catalog, {"note": "in another order", "at": NOON, "more": [("a", "b")], "price": Decimal(2), "id": 2})
    assert [(row["id"], row["note"], row["more"]) for row in rows_of(catalog)] == [
        (1, None, None),
        (2, "in another order", [("a", "b")]),
    ]


def test_a_start_commits_nothing_when_nothing_differs(catalog: Catalog) -> None:
    ensure_tables(catalog, NAMESPACE, [LATER])
    before = load(catalog).metadata_location

    ensure_tables(catalog, NAMESPACE, [LATER])

    assert load(catalog).metadata_location == before


def test_what_a_user_added_stays_and_is_no_difference(catalog: Catalog) -> None:
    with load(catalog).transaction() as transaction:
        transaction.set_properties({"owner": "research"})
        with transaction.update_schema() as update:
            update.add_column("mine", LongType(), "a user's own")

    ensure_tables(catalog, NAMESPACE, [LATER])

    assert load(catalog).properties["owner"] == "research"
    assert [field.name for field in load(catalog).schema().fields] == ["id", "price", "at", "mine", "note", "more"]
    assert said(catalog, LATER) == []


def test_a_change_that_another_process_made_first_is_made_once(catalog: Catalog) -> None:
    def overtaken() -> Table:
        loaded = load(catalog)
        ensure_tables(catalog, NAMESPACE, [LATER])  # between the load and the commit of the one under test
        return loaded

    left = apply_changes(overtaken, LATER, lambda change: change.small)

    assert left == []
    assert [field.name for field in load(catalog).schema().fields] == ["id", "price", "at", "note", "more"]


def test_rows_that_were_staged_before_a_change_are_committed_after_it(catalog: Catalog) -> None:
    staged = load(catalog)
    ensure_tables(catalog, NAMESPACE, [LATER])
    schema = schema_to_pyarrow(staged.schema(), include_field_ids=False)

    staged.append(pa.Table.from_pylist([{"id": 2, "price": Decimal(2), "at": NOON}], schema=schema))

    assert [(row["id"], row["note"]) for row in rows_of(catalog)] == [(1, None), (2, None)]
    assert load(catalog).properties[METRICS] == "full"


@pytest.mark.parametrize(
    ("column", "what", "value"),
    [
        (replace(ID, kind=LongType()), "widen id from int to long", 1 << 40),
        (
            replace(PRICE, kind=DecimalType(28, 8)),
            "widen price from decimal(18, 8) to decimal(28, 8)",
            Decimal("12345678901234567890.12345678"),
        ),
        (replace(PRICE, required=False), "let price be null", None),
    ],
)
def test_migrate_makes_what_a_start_leaves(catalog: Catalog, column: Column, what: str, value: object) -> None:
    spec, before = with_column(column), rows_of(catalog)

    left = ensure_tables(catalog, NAMESPACE, [spec])[EARLIER.name]

    assert [(change.what, change.small) for change in left] == [(what, False)]
    assert changes(load(catalog), EARLIER) == []
    assert change_table(catalog, NAMESPACE, spec, lambda _: True) == []
    assert rows_of(catalog) == before
    append(catalog, {"id": 2, "price": Decimal(2), "at": NOON} | {column.name: value})
    assert rows_of(catalog)[-1][column.name] == value


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        (IntegerType(), StringType()),
        (LongType(), IntegerType()),
        (StringType(), BinaryType()),
        (DecimalType(18, 8), DecimalType(28, 12)),
        (DecimalType(28, 8), DecimalType(18, 8)),
    ],
)
def test_a_type_that_iceberg_cannot_change_is_refused_in_a_sentence(
    tmp_path: Path, kind: IcebergType, wanted: IcebergType
) -> None:
    catalog = open_catalog(Settings(home=tmp_path))
    column = Column("value", kind, "a value", required=False)
    earlier = replace(EARLIER, columns=(*EARLIER.columns, column))
    ensure_tables(catalog, NAMESPACE, [earlier])
    later = replace(earlier, columns=(*EARLIER.columns, replace(column, kind=wanted)))

    (change,) = change_table(catalog, NAMESPACE, later, lambda _: True)

    assert change.apply is None
    assert change.what == f"column value is {kind} and should be {wanted}: Iceberg cannot turn the one into the other"


def test_a_column_that_may_not_be_null_is_refused_where_rows_have_none(catalog: Catalog) -> None:
    ensure_tables(catalog, NAMESPACE, [LATER])
    needed = replace(NOTE, required=True)

    refused = change_table(catalog, NAMESPACE, replace(LATER, columns=(ID, needed, PRICE, AT)), lambda _: True)
    absent = replace(EARLIER, columns=(*EARLIER.columns, Column("side", StringType(), "a side")))

    assert [(change.apply, change.what.split(":")[0]) for change in refused] == [
        (None, "column note may not be null any more")
    ]
    assert said(catalog, absent)[0].startswith("column side is missing and may not be null")


def test_migrate_partitions_what_comes_from_now_on_in_another_way(catalog: Catalog) -> None:
    other = replace(EARLIER, columns=(*EARLIER.columns, replace(AT, name="noticed", required=False)))
    ensure_tables(catalog, NAMESPACE, [other])
    moved = replace(other, partition_by="noticed")

    left = ensure_tables(catalog, NAMESPACE, [moved])[EARLIER.name]

    assert [change.what for change in left] == ["partition new rows by noticed_day in place of at_day"]
    assert change_table(catalog, NAMESPACE, moved, lambda _: True) == []
    append(catalog, {"id": 2, "price": Decimal(2), "at": NOON, "noticed": NOON})
    assert [field.name for field in load(catalog).spec().fields] == ["noticed_day"]
    assert [row["id"] for row in rows_of(catalog)] == [1, 2]
