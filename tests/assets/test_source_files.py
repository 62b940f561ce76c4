from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta

import polars as pl
import pytest

from k2_assets.lake import source_files
from k2_assets.lake.row_filters import day_bounds_us, instrument_ids, time_between
from k2_assets.lake.source_files import Seen, live_files, oldest_batch, read_files
from k2_core import clock
from k2_core.errors import ForeignTable
from k2_core.lake import manifests
from k2_core.lake.catalog import ensure_tables
from k2_core.lake.planned_read import data_file
from k2_core.lake.tables import GOLD_TRADES
from tests.assets.lakes import DAY, NOON, SILVER, SmallLake, a_trade, trades_of
from tests.delete_files import strike_out


def test_live_files_tell_day_age_and_bounds(lake: SmallLake) -> None:
    assert live_files(lake.table(SILVER), "timestamp") == []
    lake.append(SILVER, [a_trade(1), a_trade(2, 60), a_trade(3, NOON + timedelta(days=1))])
    lake.append(SILVER, [a_trade(4, 5)])

    files = sorted(live_files(lake.table(SILVER), "timestamp"), key=lambda each: (each.sequence, each.day))

    noon = clock.to_us(NOON)
    assert [(f.day, f.sequence, f.first_us - noon, f.last_us - noon) for f in files] == [
        (DAY, 1, 0, 60_000_000),
        (DAY + timedelta(days=1), 1, 86_400_000_000, 86_400_000_000),
        (DAY, 2, 5_000_000, 5_000_000),
    ]


def test_a_table_by_month_has_a_month_in_each_file(lake: SmallLake) -> None:
    by_month = replace(SILVER, name="silver_by_month", partition_unit="month")
    ensure_tables(lake.catalog, lake.namespace, [by_month])
    days = [date(1969, 12, 31), date(2024, 2, 29), date(2024, 3, 1), date(2024, 3, 31), date(2024, 12, 31)]
    for number, day in enumerate(days):
        lake.append(by_month, [a_trade(number, datetime.combine(day, time(12), UTC))])

    table = lake.table(by_month)

    assert sorted(each.day for each in live_files(table, "timestamp")) == sorted(day.replace(day=1) for day in days)
    assert len(live_files(table, "timestamp", day=date(2024, 3, 15))) == 2
    assert live_files(table, "timestamp", day=date(2024, 4, 1)) == []
    assert ensure_tables(lake.catalog, lake.namespace, [by_month]) == {}


def test_entries_of_manifests_are_kept_up_to_a_number_and_follow_what_is_added_and_what_goes(
    lake: SmallLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifests, "_MOST_ENTRIES", 15)
    for number in range(1, 25):  # beyond 20, manifests are merged
        lake.append(SILVER, [a_trade(number, number)])
        table = lake.table(SILVER)
        assert len(live_files(table, "timestamp")) == number
        assert {f.sequence for f in live_files(table, "timestamp")} == set(range(1, number + 1))

    lake.table(SILVER).delete("source_sequence <= 20")
    assert len(live_files(lake.table(SILVER), "timestamp")) == 4


def test_files_of_a_day_are_found_without_reading_the_manifests_of_others(
    lake: SmallLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    for day in range(5):
        lake.append(SILVER, [a_trade(day, NOON + timedelta(days=day))])
    lake.append(SILVER, [a_trade(9, NOON), a_trade(10, NOON + timedelta(days=4))])
    read, original = [], manifests._files
    monkeypatch.setattr(manifests, "_files", lambda *arguments: read.append(1) or original(*arguments))
    table = lake.table(SILVER)

    for day in range(5):
        of_day = DAY + timedelta(days=day)
        read.clear()
        monkeypatch.setattr(source_files, "MANIFESTS", manifests.Manifests())
        found = live_files(table, "timestamp", day=of_day)
        assert len(read) == len(found) + (0 if day in {0, 4} else 1)
        assert found == [each for each in live_files(table, "timestamp") if each.day == of_day]
        assert len(read) == 6, "no manifest is read twice"
        assert len(found) == (2 if day in {0, 4} else 1)
    assert live_files(table, "timestamp", day=DAY - timedelta(days=1)) == []


def test_read_files_reads_the_columns_and_rows_asked_for(lake: SmallLake) -> None:
    lake.append(GOLD_TRADES, trades_of(range(1, 11), 60, symbol="ETHUSDT") + trades_of(range(1, 11), 60))
    table = lake.table(GOLD_TRADES)
    files = live_files(table, "timestamp")
    noon = clock.to_us(NOON)

    some = read_files(
        table, files, ("source_sequence",), time_between("timestamp", noon + 60_000_000, noon + 180_000_000)
    )
    ids = read_files(table, files, ("symbol", "source_sequence"), instrument_ids("binance", "BTCUSDT", 3, 4))
    none = read_files(table, [], ("price", "symbol"))

    assert sorted(some["source_sequence"]) == [2, 2, 3, 3]
    assert sorted(ids.rows()) == [("BTCUSDT", 3), ("BTCUSDT", 4)]
    assert none.is_empty()
    assert none.schema == {"price": pl.Decimal(28, 12), "symbol": pl.String}


def test_the_oldest_batch_never_parts_the_files_of_one_commit(lake: SmallLake) -> None:
    lake.append(SILVER, [a_trade(1), a_trade(2, NOON + timedelta(days=1)), a_trade(3, NOON + timedelta(days=2))])
    lake.append(SILVER, [a_trade(4)])
    lake.append(SILVER, [a_trade(5)])
    files = live_files(lake.table(SILVER), "timestamp")

    assert [f.sequence for f in oldest_batch(files, 1)] == [1, 1, 1]
    assert [f.sequence for f in oldest_batch(files, 4)] == [1, 1, 1, 2]
    assert len(oldest_batch(files, 1_000)) == 5
    assert oldest_batch([], 10) == []


def test_seen_files_are_not_newer_and_later_ones_are(lake: SmallLake) -> None:
    lake.append(SILVER, [a_trade(1), a_trade(2, NOON + timedelta(days=1))])
    silver, gold = lake.table(SILVER), lake.table(GOLD_TRADES)
    files = live_files(silver, "timestamp")
    seen = Seen.of(gold)
    assert seen.newer(silver, files) == files

    seen = seen.with_files(silver, [f for f in files if f.day == DAY])
    assert [f.day for f in seen.newer(silver, files)] == [DAY + timedelta(days=1)]
    assert seen.with_files(silver, []) is seen

    lake.append(SILVER, [a_trade(3)])
    silver = lake.table(SILVER)
    assert {(f.day, f.sequence) for f in seen.newer(silver, live_files(silver, "timestamp"))} == {
        (DAY + timedelta(days=1), 1),
        (DAY, 2),
    }


def test_seen_forgets_days_beyond_the_newest_four_hundred_and_survives_its_property(lake: SmallLake) -> None:
    start = datetime(2020, 1, 1, tzinfo=UTC)
    lake.append(SILVER, [a_trade(n, start + timedelta(days=n)) for n in range(1, 411)])
    silver = lake.table(SILVER)
    files = live_files(silver, "timestamp")
    seen = Seen({}).with_files(silver, files)

    forgotten = sorted(f.day for f in seen.newer(silver, files))

    assert forgotten == [(start + timedelta(days=n)).date() for n in range(1, 11)]
    lake.table(GOLD_TRADES).transaction().set_properties(seen.to_properties()).commit_transaction()
    assert Seen.of(lake.table(GOLD_TRADES)) == seen


def test_a_day_is_half_open() -> None:
    start, end = day_bounds_us(DAY)

    assert clock.from_us(start) == datetime(2024, 8, 9, tzinfo=UTC)
    assert end - start == 86_400_000_000


def test_a_table_with_delete_files_is_refused(lake: SmallLake) -> None:
    lake.append(SILVER, [a_trade(1), a_trade(2)])
    [file] = live_files(lake.table(SILVER), "timestamp")
    strike_out(lake.table(SILVER), data_file(file), 0)

    with pytest.raises(ForeignTable, match="delete files"):
        live_files(lake.table(SILVER), "timestamp")
