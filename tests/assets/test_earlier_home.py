"""The lake of a home that an earlier commit made: opened, brought to the specs, worked on, and compared."""

from collections import Counter
from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest
from pyiceberg.catalog import Catalog

from k2_assets.gold.refresh_candles import CandlesRefresh
from k2_assets.gold.refresh_rows import GoldRefresh
from k2_assets.silver.rebuild_day import rebuild_day
from k2_core.home_format import FORMAT
from k2_core.lake import tables
from k2_core.lake.catalog import ensure_tables, format_of, open_catalog
from k2_core.lake.table_changes import changes
from k2_core.lake.tables import DATA, GOLD, GOLD_OHLCV_1M, GOLD_TRADES, all_tables
from k2_core.venues import VENUES
from tests.assets.drained import KnownSchemas
from tests.homes.facts import NAMESPACE, digest_of, facts_of, rows_of
from tests.homes.packed import PackedHome, unpack

SPECS = all_tables(tuple(VENUES))


@pytest.fixture(name="packed", scope="module")
def an_earlier_home(tmp_path_factory: pytest.TempPathFactory) -> PackedHome:
    return unpack(tmp_path_factory.mktemp("earlier"))


@pytest.fixture(name="catalog", scope="module")
def its_catalog(packed: PackedHome) -> Iterator[Catalog]:
    found = open_catalog(packed.settings)
    assert format_of(found) == 0
    assert ensure_tables(found, NAMESPACE, SPECS) == {}
    yield found
    found.close()


def test_every_row_offset_and_tag_stays(packed: PackedHome, catalog: Catalog) -> None:
    for name, before in packed.facts.items():
        table = catalog.load_table((NAMESPACE, name))
        found = rows(catalog, packed, name)
        assert (name, found.total(), digest_of(found)) == (name, before["rows"], before["digest"])
        tags = {tag: snapshot for tag, (snapshot, _) in before["tags"].items()}
        assert {tag: table.metadata.refs[tag].snapshot_id for tag in tags} == tags
        for snapshot, digest in before["tags"].values():
            assert digest_of(rows_of(table, before["columns"], snapshot)) == digest
    after = facts_of(packed.home)
    assert {name: after[name]["offsets"] for name in packed.facts} == {
        name: before["offsets"] for name, before in packed.facts.items()
    }


def test_its_tables_are_as_their_specs_say(catalog: Catalog) -> None:
    assert format_of(catalog) == FORMAT
    for spec in SPECS:
        assert changes(catalog.load_table((NAMESPACE, spec.name)), spec) == []


def test_a_rebuilt_day_has_the_same_rows_and_message_ids(packed: PackedHome, catalog: Catalog) -> None:
    (day,) = {row["timestamp"].date() for row in table_rows(catalog, GOLD_TRADES.name)}
    before = {name: rows(catalog, packed, name) for name in packed.facts}

    for venue, data in product(VENUES.values(), DATA):
        rebuild_day(catalog, NAMESPACE, venue, day, KnownSchemas(), data=data)
    for data in DATA:
        sources = tuple(tables.silver(venue, data).name for venue in VENUES)
        GoldRefresh(catalog, NAMESPACE, sources, day, data).take_in_news()
        GoldRefresh(catalog, NAMESPACE, sources, day, data).replace_day()
    CandlesRefresh(catalog, NAMESPACE, GOLD_OHLCV_1M, day).replace_day()

    for name, counted in before.items():
        if name.startswith(("bronze", "silver")):
            assert rows(catalog, packed, name) == counted, name
    for data in DATA:
        name = GOLD[data].name
        assert not before[name] - rows(catalog, packed, name)
        ids = [row["message_id"] for row in table_rows(catalog, name)]
        assert len(ids) == len(set(ids))
        assert set(ids) == {
            row["message_id"] for venue in VENUES for row in table_rows(catalog, tables.silver(venue, data).name)
        }
    candles = {(row["exchange"], row["symbol"], row["window_start"]) for row in table_rows(catalog, GOLD_OHLCV_1M.name)}
    assert len(candles) == rows(catalog, packed, GOLD_OHLCV_1M.name).total() >= before[GOLD_OHLCV_1M.name].total()


def rows(catalog: Catalog, packed: PackedHome, name: str) -> Counter[str]:
    """Count the rows of a table by the columns that it had."""
    return rows_of(catalog.load_table((NAMESPACE, name)), packed.facts[name]["columns"])


def table_rows(catalog: Catalog, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = catalog.load_table((NAMESPACE, name)).scan().to_arrow().to_pylist()
    return found
