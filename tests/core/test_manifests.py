"""Manifests of real tables: what K2 reads of them is what pyiceberg reads."""

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.conversions import from_bytes
from pyiceberg.expressions import GreaterThanOrEqual
from pyiceberg.manifest import DataFile, ManifestContent
from pyiceberg.table import Table
from pyiceberg.types import DecimalType, StringType

from k2_core.lake import manifests, planned_read
from k2_core.lake.manifests import BEGINNING_US, END_US, Bounded, LakeFile, Manifest, Manifests, reading
from k2_core.lake.planned_read import ALL_ROWS, data_file, delete_files, read_rows, stream
from tests.assets.lakes import DAY, NOON, SILVER, SmallLake, a_trade
from tests.delete_files import strike_out

COLUMNS = Bounded(*(SILVER.schema.find_field(name).field_id for name in ("timestamp", "symbol", "exchange")))


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[SmallLake]:
    made = SmallLake(tmp_path / "home")
    yield made
    made.catalog.close()


def manifest_list(table: Table) -> str:
    snapshot = table.current_snapshot()
    assert snapshot is not None
    return snapshot.manifest_list


def listed(table: Table) -> tuple[Manifest, ...]:
    return Manifests().listed(manifest_list(table), reading(table.io))


def files_of(table: Table, bounded: Bounded = COLUMNS) -> list[LakeFile]:
    read = reading(table.io)
    return [file for each in listed(table) for file in Manifests().files(each, read, bounded)]


def test_files_are_those_that_pyiceberg_finds_with_their_ages_and_bounds(lake: SmallLake) -> None:
    for number in range(1, 25):  # beyond 20, manifests are merged, and their entries name their own ages
        symbols = ["BTCUSDT", "ÄTHUSDT"] if number % 2 else ["DOGEUSDT"]
        days = NOON + timedelta(days=number % 3)
        lake.append(SILVER, [a_trade(number, days, symbol=symbol) for symbol in symbols])
    lake.table(SILVER).delete("source_sequence <= 4")  # some entries are now marked as deleted
    table = lake.table(SILVER)
    snapshot = table.current_snapshot()
    assert snapshot is not None
    expected = {
        entry.data_file.file_path: (
            entry.sequence_number,
            entry.data_file.record_count,
            entry.data_file.file_size_in_bytes,
            entry.data_file.partition[0],
            *(bound(entry.data_file, name) for name in ("timestamp", "symbol", "exchange")),
        )
        for manifest in snapshot.manifests(table.io)
        for entry in manifest.fetch_manifest_entry(table.io)
    }

    found = files_of(table)

    assert len(found) == len(expected) == 20
    for file in found:
        times = file.first_us, file.last_us
        days = (file.day - manifests._EPOCH).days
        assert file.partition == (days,)
        read = (file.sequence, file.rows, file.size_bytes, days, times, file.symbols, file.exchanges)
        assert read == expected[file.path]


def bound(file: DataFile, name: str) -> tuple[object, object]:
    field = SILVER.schema.find_field(name)
    lower, upper = file.lower_bounds[field.field_id], file.upper_bounds[field.field_id]
    return from_bytes(field.field_type, lower), from_bytes(field.field_type, upper)  # type: ignore[arg-type]


def test_without_bounds_a_file_may_hold_anything(lake: SmallLake) -> None:
    lake.append(SILVER, [a_trade(1)])
    [file] = files_of(lake.table(SILVER), Bounded(time=999))
    assert (file.first_us, file.last_us, file.symbols, file.exchanges) == (BEGINNING_US, END_US, None, None)


def test_a_list_gives_the_days_of_each_manifest(lake: SmallLake) -> None:
    lake.append(SILVER, [a_trade(1, NOON), a_trade(2, NOON + timedelta(days=2))])
    lake.append(SILVER, [a_trade(3, NOON + timedelta(days=5))])
    found = {each.days("day") for each in listed(lake.table(SILVER))}
    assert found == {(DAY, DAY + timedelta(days=2)), (DAY + timedelta(days=5), DAY + timedelta(days=5))}


def test_a_manifest_is_read_once_and_the_oldest_used_one_is_forgotten(
    lake: SmallLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifests, "_MOST_ENTRIES", 3)
    for number in range(3):
        lake.append(SILVER, [a_trade(number)])
    table, read = lake.table(SILVER), []

    def counting(location: str) -> bytes:
        read.append(location)
        return reading(table.io)(location)

    kept = Manifests()
    of_table = listed(table)
    for _ in range(2):
        for each in of_table:
            kept.files(each, counting)
    assert len(read) == 3
    kept.listed(manifest_list(table), counting)  # three more: all that was read before goes
    kept.listed(manifest_list(table), counting)
    assert len(read) == 4
    kept.files(of_table[0], counting)
    assert len(read) == 5


def test_pyiceberg_reads_and_knows_a_file_by_what_is_kept_of_it(lake: SmallLake) -> None:
    lake.append(SILVER, [a_trade(1), a_trade(2, 60)])
    table = lake.table(SILVER)
    [task] = table.scan().plan_files()
    [file] = files_of(table)

    ours = data_file(file)

    assert ours == task.file
    assert (ours.partition, ours.spec_id, ours.file_format) == (
        task.file.partition, task.file.spec_id, task.file.file_format,
    )  # fmt: skip
    assert (ours.record_count, ours.file_size_in_bytes) == (task.file.record_count, task.file.file_size_in_bytes)
    assert read_rows(table, [file], ("source_sequence",))["source_sequence"].to_pylist() == [1, 2]


def test_delete_files_are_seen_and_strike_out_rows(lake: SmallLake) -> None:
    lake.append(SILVER, [a_trade(number, number) for number in range(4)])
    lake.append(SILVER, [a_trade(9)])
    [file] = [each for each in files_of(lake.table(SILVER)) if each.rows == 4]
    assert not any(each.strikes_out for each in listed(lake.table(SILVER)))

    strike_out(lake.table(SILVER), data_file(file), 0, 2)

    table = lake.table(SILVER)
    snapshot = table.current_snapshot()
    assert snapshot is not None
    assert [each.content for each in snapshot.manifests(table.io)].count(ManifestContent.DELETES) == 1
    assert [each.strikes_out for each in listed(table)].count(True) == 1
    rows = stream(table, [file], ("source_sequence",), ALL_ROWS, delete_files(table, snapshot.snapshot_id)).read_all()
    assert rows["source_sequence"].to_pylist() == [1, 3]


def test_files_of_an_earlier_schema_are_read_in_the_types_of_today(lake: SmallLake) -> None:
    lake.append(SILVER, [a_trade(number, number) for number in range(3)])
    with lake.table(SILVER).update_schema() as update:
        update.add_column("note", StringType())
        update.update_column("price", DecimalType(38, 12))
        update.rename_column("side", "aggressor")
    table = lake.table(SILVER)
    files, columns = files_of(table), ("price", "aggressor", "note")
    where = GreaterThanOrEqual("source_sequence", 1)

    streamed = stream(table, files, columns, where)
    assert streamed.schema.field("price").type == pa.decimal128(38, 12)
    rows = [{"price": Decimal(100), "aggressor": "BUY", "note": None}] * 2
    assert streamed.read_all().select(columns).to_pylist() == rows
    assert read_rows(table, files, columns, where).to_pylist() == rows


def test_a_stream_holds_a_part_of_a_large_file(lake: SmallLake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planned_read, "_STREAM_ROWS", 1_000)
    lake.table(SILVER).transaction().set_properties({"write.parquet.row-group-limit": "500"}).commit_transaction()
    lake.append(SILVER, [a_trade(number, number / 1_000) for number in range(3_000)])
    lake.append(SILVER, [a_trade(number) for number in range(10)])
    table = lake.table(SILVER)
    sizes = [batch.num_rows for batch in stream(table, files_of(table), ("source_sequence",))]
    assert sorted(sizes) == [10, *[500] * 6]
