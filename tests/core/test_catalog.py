import subprocess
import sys
from pathlib import Path

from pyiceberg.io.pyarrow import schema_to_pyarrow

from k2_core.lake.catalog import ensure_tables, open_catalog
from k2_core.lake.tables import GOLD_TRADES, all_tables
from k2_core.settings import Settings

NAMESPACE = "market_data"
TABLES = all_tables(("binance",))
MAKE_TABLES = """
import sys
from pathlib import Path
from k2_core.lake.catalog import ensure_tables, open_catalog
from k2_core.settings import Settings
from k2_core.lake.tables import all_tables
print("ready", flush=True)
for home in sys.stdin:
    ensure_tables(open_catalog(Settings(home=Path(home.strip()))), "market_data", all_tables(("binance",)))
    print("made", flush=True)
"""


def test_ensure_tables_makes_every_table_as_its_spec_says(tmp_path: Path) -> None:
    catalog = open_catalog(Settings(home=tmp_path))
    ensure_tables(catalog, NAMESPACE, TABLES)

    assert {name for _, name in catalog.list_tables(NAMESPACE)} == {spec.name for spec in TABLES}
    for spec in TABLES:
        table = catalog.load_table((NAMESPACE, spec.name))
        assert schema_to_pyarrow(table.schema(), include_field_ids=False) == schema_to_pyarrow(
            spec.schema, include_field_ids=False
        )
        assert [field.doc for field in table.schema().fields] == [column.doc for column in spec.columns]
        assert table.metadata.format_version == 2
        assert table.properties["comment"] == spec.doc
        assert table.properties["commit.retry.num-retries"] == "0"
        (partition,) = table.spec().fields
        assert (partition.name, str(partition.transform)) == (
            f"{spec.partition_by}_{spec.partition_unit}",
            spec.partition_unit,
        )


def test_ensure_tables_leaves_what_stands_when_it_is_called_again(tmp_path: Path) -> None:
    catalog = open_catalog(Settings(home=tmp_path))
    ensure_tables(catalog, NAMESPACE, TABLES)
    before = catalog.load_table((NAMESPACE, GOLD_TRADES.name)).metadata

    ensure_tables(open_catalog(Settings(home=tmp_path)), NAMESPACE, TABLES)

    assert catalog.load_table((NAMESPACE, GOLD_TRADES.name)).metadata == before


def test_ensure_tables_may_run_in_two_processes_on_a_fresh_catalog(tmp_path: Path) -> None:
    makers = [_a_maker(), _a_maker()]
    homes = [tmp_path / str(number) for number in range(5)]
    try:
        assert [_says(maker) for maker in makers] == ["ready", "ready"]
        for home in homes:
            for maker in makers:
                _tell(maker, home)
            assert [_says(maker) for maker in makers] == ["made", "made"]
    finally:
        for maker in makers:
            maker.communicate(timeout=60)

    for home in homes:
        tables = open_catalog(Settings(home=home)).list_tables(NAMESPACE)
        assert {name for _, name in tables} == {spec.name for spec in TABLES}


def _a_maker() -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", MAKE_TABLES]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _tell(maker: "subprocess.Popen[str]", home: Path) -> None:
    assert maker.stdin is not None
    maker.stdin.write(f"{home}\n")
    maker.stdin.flush()


def _says(maker: "subprocess.Popen[str]") -> str:
    assert maker.stdout is not None
    return maker.stdout.readline().strip()


def test_a_catalog_sees_what_another_has_committed_and_reads_it_once(tmp_path: Path) -> None:
    one, other = (open_catalog(Settings(home=tmp_path)) for _ in range(2))
    ensure_tables(one, NAMESPACE, TABLES)
    name = (NAMESPACE, GOLD_TRADES.name)

    assert one.load_table(name).metadata is one.load_table(name).metadata
    other.load_table(name).transaction().set_properties({"k2.noted": "by the other"}).commit_transaction()
    assert one.load_table(name).properties["k2.noted"] == "by the other"

    stale = one.load_table(name)
    other.load_table(name).transaction().set_properties({"k2.noted": "again"}).commit_transaction()
    assert stale.refresh().properties["k2.noted"] == "again"
    one.drop_table(name)
    ensure_tables(one, NAMESPACE, TABLES)
    assert "k2.noted" not in one.load_table(name).properties
