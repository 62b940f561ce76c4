"""Tables that have their newer columns last, and a user's own among them: drained, rebuilt, refined and compacted."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.types import StringType

from k2_assets.maintenance.table_round import TableRound
from k2_core.lake import tables
from k2_core.lake.catalog import ensure_tables, open_catalog
from k2_core.lake.table_spec import TableSpec
from k2_core.lake.tables import all_tables
from k2_core.settings import Maintenance, Settings
from tests.assets.drained import BRONZE, REJECTED, DrainedLake, at, received
from tests.assets.frames import NOON_MS, a_quote_frame

QUOTES = tables.silver("binance", "quotes")
EVERY_TABLE = all_tables(("binance",))
OF_QUOTES = "topic-of-quotes"
CUT_OFF = b'{"stream":'


def of_an_earlier_k2(spec: TableSpec) -> TableSpec:
    """The table as it was before its nullable columns came, and one of its properties."""
    columns = tuple(column for column in spec.columns if column.required)
    return replace(spec, columns=columns, properties={k: v for k, v in spec.properties.items() if "isolation" not in k})


@pytest.fixture(name="lake")
def a_lake_of_an_earlier_k2(tmp_path: Path) -> Iterator[DrainedLake]:
    settings = Settings(home=tmp_path / "home")
    catalog = open_catalog(settings)
    ensure_tables(catalog, settings.catalog.namespace, [of_an_earlier_k2(spec) for spec in EVERY_TABLE])
    for spec in (BRONZE, REJECTED, QUOTES):
        with catalog.load_table((settings.catalog.namespace, spec.name)).update_schema() as update:
            update.add_column("mine", StringType())
    catalog.close()
    made = DrainedLake(settings.home)
    yield made
    made.catalog.close()


def drain(lake: DrainedLake) -> None:
    lake.drain(at(NOON_MS, 1), at(NOON_MS + 1, 2, p="-1"), received(CUT_OFF), b"no envelope", at(NOON_MS + 90_000, 3))
    quotes = [received(a_quote_frame(number), NOON_MS + number) for number in range(1, 4)]
    lake.drain(*quotes, b"no envelope", topic_id=OF_QUOTES, data="quotes")


def refine(lake: DrainedLake) -> None:
    lake.trades_refresh().take_in_news()
    lake.quotes_refresh().take_in_news()
    lake.candles_refresh().take_in_news()


def columns_of(lake: DrainedLake, spec: TableSpec) -> list[str]:
    return [field.name for field in lake.table(spec).schema().fields]


def test_new_columns_come_last_and_are_written_and_read_by_name(lake: DrainedLake) -> None:
    drain(lake)
    refine(lake)

    assert columns_of(lake, BRONZE) != [column.name for column in BRONZE.columns]
    assert set(columns_of(lake, BRONZE)) == {*(column.name for column in BRONZE.columns), "mine"}
    bronze = sorted(lake.rows(BRONZE), key=lambda row: row["kafka_offset"])
    assert [row["channel"] for row in bronze] == ["trade", "trade", "trade", None, "trade"]
    assert [row["bid_quantity"] is not None for row in lake.rows(QUOTES)] == [True] * 3
    assert sorted(row["source_sequence"] for row in lake.gold_quotes().values()) == [1, 2, 3]
    assert sorted(row["source_sequence"] for row in lake.gold().values()) == [1, 3]
    assert [row["quote_volume"] is not None for row in lake.candles().values()] == [True] * 2
    before = [lake.metadata_location(spec) for spec in EVERY_TABLE]
    outcomes = [lake.rebuild(), lake.rebuild(data="quotes")]
    lake.trades_refresh().replace_day()
    lake.quotes_refresh().replace_day()
    lake.candles_refresh().replace_day()
    assert [each.rows_written + each.rejected_written for each in outcomes] == [0, 0]
    assert [lake.metadata_location(spec) for spec in EVERY_TABLE] == before


def test_a_rebuild_puts_values_of_new_columns_in_the_place_of_none(lake: DrainedLake) -> None:
    drain(lake)
    rows = lake.rows(QUOTES)
    lake.table(QUOTES).delete("source_sequence > 1")
    lake.append(QUOTES, [row | {"bid_quantity": None} for row in rows if row["source_sequence"] > 1])

    outcome = lake.rebuild(data="quotes")

    assert (outcome.rows_written, outcome.rows_replaced) == (2, 2)
    assert sorted(lake.rows(QUOTES), key=repr) == sorted(rows, key=repr)


def test_compaction_keeps_a_users_own_column(lake: DrainedLake) -> None:
    drain(lake)
    drain(lake)
    table = lake.table(REJECTED)
    rows = table.scan().to_arrow()
    mine = rows.column_names.index("mine")
    notes = pa.array(["a note"] * rows.num_rows, rows.schema.field(mine).type)
    table.overwrite(rows.set_column(mine, rows.schema.field(mine), notes))
    drain(lake)
    settings = Maintenance(compact_files=2, compact_after_s=0)

    reports = [TableRound(lake.catalog, lake.namespace, spec, settings).run() for spec in (BRONZE, REJECTED)]

    assert [(report.put_off, report.files_joined > 1) for report in reports] == [([], True)] * 2
    assert Counter(row["mine"] for row in lake.rows(REJECTED)) == {"a note": rows.num_rows, None: rows.num_rows // 2}
    assert len(lake.rows(BRONZE)) == 15
