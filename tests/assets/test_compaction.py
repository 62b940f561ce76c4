import random
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyiceberg.table import Table

from k2_assets.lake import rewrites
from k2_assets.lake.commits import arrow_schema, commit_drained
from k2_assets.lake.source_files import Seen, live_files
from k2_assets.lake.table_lock import lock
from k2_assets.maintenance.compaction import Compacted, Limits, choose, compact, oldest_first
from k2_assets.topic_tables.faulty_messages import harmless_row
from k2_core import clock
from k2_core.lake import tables
from k2_core.lake.manifests import LakeFile
from k2_core.lake.table_spec import TableSpec
from k2_core.lake.tables import GOLD_OHLCV_1M, GOLD_TRADES
from k2_core.offsets import Offsets
from tests.assets.by_hand import candles_by_hand, contents
from tests.assets.lakes import DAY, NOON, SILVER, Row, SmallLake, a_trade, to_arrow, trades_of

LATER_MS = 3_600_000
TOMORROW = date(2024, 8, 10)
REST = 4
"""So many times as long as its commit took a drain rests until its next; one without any rest starves all others."""
LIMITS = Limits(
    files=16, bytes=128 * 1024 * 1024, rows=1_000_000, memory_bytes=1 << 28, young_ms=60_000, closed_ms=21_600_000
)


def compacted(lake: SmallLake, spec: TableSpec = SILVER, **limits: int) -> list[Compacted]:
    """Join what is due, as in an hour."""
    with lock(lake.catalog, f"files:{spec.name}", 30) as lease:
        now_ms = clock.now_ns() // clock.NS_PER_MS + LATER_MS
        return list(compact(lambda: lake.table(spec), lease, spec, replace(LIMITS, **limits), now_ms))


def rows_of(lake: SmallLake, spec: TableSpec = SILVER) -> Counter[str]:
    return Counter(repr(sorted(row.items())) for row in lake.rows(spec))


def files_of(lake: SmallLake, spec: TableSpec = SILVER) -> list[LakeFile]:
    return live_files(lake.table(spec), spec.partition_by)


def total(table: Table, what: str) -> int:
    snapshot = table.current_snapshot()
    assert snapshot is not None
    assert snapshot.summary is not None
    return int(snapshot.summary[f"total-{what}"] or 0)


def a_file(share: float, sequence: int, day: date = DAY) -> LakeFile:
    return LakeFile(f"{day}/{sequence}", rows=int(share * 1_000_000), size_bytes=0, sequence=sequence, day=day)


@pytest.mark.parametrize("spec", [SILVER, GOLD_TRADES])
def test_joined_files_hold_the_same_rows_in_their_readers_order(lake: SmallLake, spec: TableSpec) -> None:
    rng = random.Random(1)
    for number in range(20):
        some = [a_trade(100 * number + n, rng.uniform(0, 9_000), symbol=rng.choice("ABC") * 3) for n in range(25)]
        lake.append(spec, some)
    before = rows_of(lake, spec)

    done = compacted(lake, spec)

    assert [(each.files, each.into, each.rows) for each in done] == [(20, 1, 500)]
    assert rows_of(lake, spec) == before
    [file] = files_of(lake, spec)
    rows = pq.read_table(file.path.removeprefix("file://")).to_pylist()
    assert rows == sorted(rows, key=lambda row: tuple(row[name] for name in spec.sort_by))
    table = lake.table(spec)
    assert (total(table, "records"), total(table, "data-files")) == (500, 1)
    assert total(table, "files-size") == file.size_bytes


def test_every_column_of_bronze_and_rejected_survives(lake: SmallLake) -> None:
    bronze, rejected = tables.bronze_trades("binance"), tables.silver_rejected("binance")
    for number in range(16):
        place = {"topic_id": "t", "kafka_partition": number % 3, "kafka_offset": 16 - number, "frame_index": 0}
        row = dict.fromkeys([column.name for column in (*bronze.columns, *rejected.columns)]) | place
        row |= {"topic": "t", "kafka_topic": "t", "kafka_timestamp": NOON, "ingestion_timestamp": NOON}
        row |= {"payload": bytes([number, 0, 255]), "reason": "malformed_json", "error": "é"}
        for spec in (bronze, rejected):
            lake.append(spec, [row])
    for spec in (bronze, rejected):
        before = rows_of(lake, spec)
        assert [each.files for each in compacted(lake, spec)] == [16]
        assert rows_of(lake, spec) == before
        assert len(before) == 16


def test_gold_does_not_read_joined_files_again_and_reads_what_it_had_not_seen(lake: SmallLake) -> None:
    for number in range(1, 11):
        lake.append(SILVER, [a_trade(number, number)])
    assert lake.trades_refresh().take_in_news().rows_added == 10
    for number in range(11, 17):
        lake.append(SILVER, [a_trade(number, number)])

    assert [each.files for each in compacted(lake)] == [16]

    silver = lake.table(SILVER)
    assert [each.sequence for each in files_of(lake)] == [16]
    assert Seen.of(lake.table(GOLD_TRADES)).behind(silver, files_of(lake)) == {DAY}
    assert lake.trades_refresh().take_in_news().rows_added == 6
    assert len(lake.gold()) == 16
    for number in range(17, 33):
        lake.append(SILVER, [a_trade(number, number)])
    assert lake.trades_refresh().take_in_news().rows_read == 16
    assert [each.files for each in compacted(lake)] == [17]  # the first one is as small as they are
    assert lake.trades_refresh().take_in_news().rows_read == 0
    assert len(lake.gold()) == 32


def test_a_drain_goes_on_while_files_are_joined(lake: SmallLake) -> None:
    for number in range(40):
        lake.append(SILVER, [a_trade(number, number)])
    stop, appended = threading.Event(), []

    def drain() -> None:
        place, table = ("topic", 0), lake.table(SILVER)
        for number in range(1_000, 2_000):
            if stop.is_set():
                return
            start = Offsets({place: number - 1_000}) if number > 1_000 else Offsets({})
            rows = to_arrow(SILVER, [a_trade(number, number % 3_000)])
            began = clock.monotonic()
            table = commit_drained(table, rows, start, Offsets({place: number - 999}))
            appended.append(number)
            stop.wait(REST * (clock.monotonic() - began))

    draining = threading.Thread(target=drain)
    draining.start()
    done = [step for _ in range(3) for step in compacted(lake, files=4)]
    stop.set()
    draining.join()

    ids = Counter(row["source_sequence"] for row in lake.rows(SILVER))
    assert ids == Counter([*range(40), *appended])
    assert sum(each.files for each in done) >= 40
    assert appended
    table = lake.table(SILVER)
    assert Offsets.from_properties(table.properties) == Offsets({("topic", 0): len(appended)})
    assert total(table, "records") == 40 + len(appended)
    assert total(table, "data-files") == len(files_of(lake))


def test_gold_and_its_compaction_never_lose_against_each_other(lake: SmallLake) -> None:
    """Trades and candles are refreshed in one thread, their files joined in another; both go on for a while."""
    rows, stop, failures = trades_of(range(1, 31), 27.4), threading.Event(), []

    def join() -> None:
        while not stop.is_set():
            for spec in (GOLD_TRADES, GOLD_OHLCV_1M):
                try:
                    compacted(lake, spec, files=2)
                except Exception as failure:  # noqa: BLE001  # shown by the assertion below
                    failures.append(failure)
                    return

    joining = threading.Thread(target=join)
    joining.start()
    for first in range(0, len(rows), 3):
        lake.append(SILVER, rows[first : first + 3])
        lake.trades_refresh().take_in_news()
        lake.candles_refresh().take_in_news()
    stop.set()
    joining.join()

    assert failures == []
    assert sorted(row["source_sequence"] for row in lake.gold().values()) == list(range(1, 31))
    assert contents(lake.rows(GOLD_OHLCV_1M)) == candles_by_hand(rows)
    joined = [s for s in lake.table(GOLD_TRADES).snapshots() if s.summary and s.summary["k2.compacted"]]
    assert joined


def test_files_that_gold_replaced_meanwhile_are_left_to_the_next_round(
    lake: SmallLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = trades_of(range(1, 41), 30)
    for row in rows:
        lake.append(GOLD_TRADES, [row])
    original = rewrites._try_replace

    def late(table: Table, *arguments: Any) -> bool:
        lake.table(GOLD_TRADES).delete("source_sequence <= 3")
        return original(lake.table(GOLD_TRADES), *arguments)

    monkeypatch.setattr(rewrites, "_try_replace", late)
    assert compacted(lake, GOLD_TRADES) == []
    monkeypatch.undo()
    assert sorted(row["source_sequence"] for row in lake.rows(GOLD_TRADES)) == list(range(4, 41))
    assert [each.files for each in compacted(lake, GOLD_TRADES)] == [37]
    assert sorted(row["source_sequence"] for row in lake.rows(GOLD_TRADES)) == list(range(4, 41))


def test_young_files_are_left_alone_until_readers_have_seen_them(lake: SmallLake) -> None:
    for number in range(20):
        lake.append(SILVER, [a_trade(number)])
    table, files = lake.table(SILVER), files_of(lake)
    commits = sorted(table.snapshots(), key=lambda each: each.sequence_number or 0)

    assert oldest_first(table, files, commits[0].timestamp_ms - 1) == []
    some = oldest_first(table, files, commits[7].timestamp_ms)
    assert [each.sequence for each in some] == list(range(1, len(some) + 1))
    assert 8 <= len(some) <= 20
    assert len(oldest_first(table, files, commits[-1].timestamp_ms)) == 20


def test_manifests_stay_few_beside_commits_and_compactions(lake: SmallLake) -> None:
    counts = []
    for number in range(60):
        lake.append(SILVER, [a_trade(number, number)])
        if number % 20 == 19:
            compacted(lake)
        snapshot = lake.table(SILVER).current_snapshot()
        assert snapshot is not None
        counts.append(len(snapshot.manifests(lake.table(SILVER).io)))
    assert max(counts) <= 22
    assert len(files_of(lake)) <= 2 * 16


def tiers() -> st.SearchStrategy[list[LakeFile]]:
    shares = st.floats(1e-6, 1.2)
    days = st.sampled_from([DAY, TOMORROW])
    files = st.lists(st.tuples(shares, days), max_size=80)
    return files.map(lambda made: [a_file(share, n, day) for n, (share, day) in enumerate(made)])


@given(tiers())
def test_what_is_chosen_is_of_one_day_and_tier_and_fits_into_one_file(files: list[LakeFile]) -> None:
    batches = choose(files, LIMITS, closed_before=DAY)
    chosen = [each.path for batch in batches for each in batch]
    assert len(chosen) == len(set(chosen))
    for batch in batches:
        shares = [each.rows for each in batch]
        assert len(batch) >= 2
        assert len({each.day for each in batch}) == 1
        assert sum(shares) <= 1_000_000
        assert max(shares) < 500_000
        assert max(shares) <= 16 * max(min(shares), 1) + 16


@pytest.mark.parametrize(("count", "closed", "joined"), [(15, False, 0), (16, False, 16), (2, True, 2), (1, True, 0)])
def test_an_open_day_waits_for_sixteen_files_and_a_closed_one_for_two(count: int, closed: bool, joined: int) -> None:
    files = [a_file(0.001, n) for n in range(count)]
    batches = choose(files, LIMITS, closed_before=TOMORROW if closed else DAY)
    assert sum(len(batch) for batch in batches) == joined


def test_rows_of_a_day_are_moved_a_few_times_only() -> None:
    """A day of commits every ten seconds: how many files it is left with, and how often a row was written."""
    files: list[LakeFile] = []
    moved = most = 0
    for number in range(8_640):
        files.append(a_file(0.002, number))
        if number % 30 == 29:
            for batch in choose(files, LIMITS, closed_before=DAY):
                rows = sum(each.rows for each in batch)
                gone = {id(each) for each in batch}
                files = [each for each in files if id(each) not in gone] + [a_file(rows / 1_000_000, number)]
                moved += rows // 2_000
        most = max(most, len(files))
    assert most <= 30 + 16 + 16 + 8_640 * 0.002 / 0.5
    assert moved <= 3 * 8_640


def days_apart() -> Iterator[datetime]:
    yield from (datetime(2024, 8, day, 1, tzinfo=UTC) for day in range(1, 6))


def test_days_are_never_joined_with_each_other(lake: SmallLake) -> None:
    for _ in range(3):
        rows: list[Row] = [a_trade(day.day, day + timedelta(minutes=1)) for day in days_apart()]
        lake.append(SILVER, rows)
    before = rows_of(lake)
    assert [each.files for each in compacted(lake, files=3)] == [3] * 5
    assert rows_of(lake) == before
    assert Counter(each.day for each in files_of(lake)) == Counter(day.date() for day in days_apart())


@pytest.mark.parametrize("alike", [True, False], ids=["repeated", "all different"])
def test_frames_that_compress_a_thousandfold_are_joined_as_memory_allows(lake: SmallLake, alike: bool) -> None:
    bronze = tables.bronze_trades("binance")
    (row,) = harmless_row(arrow_schema(bronze)).to_pylist()
    for first in range(0, 160, 8):
        numbers = range(first, first + 8)
        payloads = [f"{0 if alike else number:06}".encode() * 10_000 for number in numbers]
        own = [row | {"payload": payload, "kafka_offset": at} for at, payload in zip(numbers, payloads, strict=True)]
        lake.append(bronze, own)
    before = rows_of(lake, bronze)

    assert compacted(lake, bronze, memory_bytes=600_000) == [], "two of them are too much"
    done = compacted(lake, bronze, memory_bytes=1_500_000)

    assert {(each.files, each.rows) for each in done} == {(3, 24), (2, 16)}
    assert rows_of(lake, bronze) == before
