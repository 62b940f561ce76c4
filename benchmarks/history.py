"""Whether commits and plans stay quick after thousands of commits: a silver table, with and without maintenance.

Run it with ``.venv/bin/python benchmarks/history.py``; it builds its lakes in temporary folders. Commits follow each
other without the drain's pause of 10 s, and every margin of maintenance is shortened to the time that as many commits
took as a drain makes in it: 60 in 10 minutes, 360 in an hour. So the table has as many snapshots as on a platform.
Maintenance runs between commits as the platform runs it: every 30th commit, in the same process. A state is tagged
every 360 commits, as an hour is. Its CPU is shown as well: other work on the machine hardly moves it.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from statistics import median, quantiles

import pyarrow as pa
from line_plot import Panel, write_svg
from pyiceberg.table import Table
from real_parts import machine

from k2_assets.lake.commits import arrow_schema, commit_drained
from k2_assets.lake.row_filters import time_between
from k2_assets.lake.source_files import live_files
from k2_assets.lake.table_history import create_tag
from k2_assets.maintenance.file_removal import list_files
from k2_assets.maintenance.table_round import TableRound
from k2_core.clock import from_us, monotonic
from k2_core.lake import tables
from k2_core.lake.catalog import ensure_tables, open_catalog
from k2_core.offsets import Offsets
from k2_core.settings import Maintenance, Settings
from k2_core.trades import message_id

SPEC = tables.silver_trades("binance")
START_US = 1_723_161_600_000_000  # 2024-08-09
PACE_US = 10_000_000
ROWS, BLOCK, ROUND, HOUR = 1_000, 300, 30, 360
PLACE = ("topic", 0)


@dataclass
class Block:
    """What was measured while 300 commits were made; sizes and counts at their end."""

    commits_ms: list[float] = field(default_factory=list)
    commits_cpu_ms: list[float] = field(default_factory=list)
    live_files_ms: list[float] = field(default_factory=list)
    scan_ms: list[float] = field(default_factory=list)
    rounds_ms: list[float] = field(default_factory=list)
    snapshots: int = 0
    metadata_kb: float = 0
    manifests: int = 0
    files: int = 0
    on_disk: int = 0


def rows_of(number: int) -> pa.Table:
    """Return the rows of a commit: 1,000 trades of three symbols over ten seconds."""
    schema = arrow_schema(SPEC)
    ids = range(number * ROWS, (number + 1) * ROWS)
    symbols = [("BTCUSDT", "ETHUSDT", "BNBUSDT")[each % 3] for each in ids]
    times = [from_us(START_US + number * PACE_US + step * PACE_US // ROWS) for step in range(ROWS)]
    constant = {
        "exchange": "binance", "asset_class": "crypto", "currency": "USDT", "side": "BUY", "trade_conditions": [],
        "vendor_data": [("E", "1723161300000")], "kafka_topic": "market.crypto.trades.binance.raw",
        "topic_id": PLACE[0], "kafka_partition": PLACE[1], "frame_index": 0, "received_ns": 1,
    }  # fmt: skip
    columns = {name: [value] * ROWS for name, value in constant.items()} | {
        "message_id": [message_id("binance", symbol, str(each)) for symbol, each in zip(symbols, ids, strict=True)],
        "trade_id": [str(each) for each in ids],
        "symbol": symbols,
        "timestamp": times,
        "ingestion_timestamp": times,
        "price": [Decimal(61_000 + each % 997) for each in ids],
        "quantity": [Decimal(1 + each % 13) for each in ids],
        "source_sequence": list(ids),
        "platform_sequence": list(ids),
        "kafka_offset": list(ids),
    }
    return pa.Table.from_pydict({name: columns[name] for name in schema.names}, schema=schema)


def run(home: Path, commits: int, *, maintained: bool) -> Iterator[Block]:
    """Make commits as a drain does, and yield what was measured, block by block."""
    settings = Settings(home=home)
    catalog, namespace = open_catalog(settings), settings.catalog.namespace
    ensure_tables(catalog, namespace, [SPEC])
    table, block, at = catalog.load_table((namespace, SPEC.name)), Block(), list[float]()
    for number in range(commits):
        rows = rows_of(number)
        start = Offsets({PLACE: number * ROWS}) if number else Offsets({})
        began, cpu_began = monotonic(), time.process_time()
        table = commit_drained(table, rows, start, Offsets({PLACE: (number + 1) * ROWS}))
        at.append(monotonic())
        block.commits_cpu_ms.append((time.process_time() - cpu_began) * 1000)
        block.commits_ms.append((at[-1] - began) * 1000)
        if number % 10 == 9:
            plan(table, number, block)
        if maintained and number % HOUR == HOUR - 1:
            snapshot = table.current_snapshot()
            assert snapshot
            create_tag(catalog, (namespace, SPEC.name), f"hour-{number // HOUR}", snapshot.snapshot_id)
        if maintained and number % ROUND == ROUND - 1:
            began = monotonic()
            TableRound(catalog, namespace, SPEC, margins(at)).run()
            block.rounds_ms.append((monotonic() - began) * 1000)
            table = catalog.load_table((namespace, SPEC.name))
        if number % BLOCK == BLOCK - 1:
            measure(table, block)
            yield block
            block = Block()
    check(table, commits)


def margins(at: list[float]) -> Maintenance:
    """Return the settings by which a minute is as long as the newest six commits took, rounds between them included."""

    def last(commits: int) -> float:
        return monotonic() - at[max(len(at) - commits, 0)]

    return Maintenance(
        drained_keep_s=max(last(HOUR // 6), 1),
        remove_after_s=last(HOUR),
        compact_after_s=last(6),
        settle_s=last(6),
        orphan_every_s=last(HOUR),
        closed_after_s=10**9,  # the day of 2024 is the open one
    )


def plan(table: Table, number: int, block: Block) -> None:
    """Measure what a run of gold plans, its files of the day, and a filtered scan of the last minute."""
    began = monotonic()
    live_files(table, SPEC.partition_by, day=from_us(START_US + number * PACE_US).date())
    block.live_files_ms.append((monotonic() - began) * 1000)
    began = monotonic()
    end_us = START_US + (number + 1) * PACE_US
    list(table.scan(time_between("timestamp", end_us - 60_000_000, end_us)).plan_files())
    block.scan_ms.append((monotonic() - began) * 1000)


def measure(table: Table, block: Block) -> None:
    """Note sizes and counts."""
    snapshot = table.current_snapshot()
    assert snapshot
    block.snapshots = len(table.snapshots())
    block.metadata_kb = len(table.io.new_input(table.metadata_location)) / 1024
    block.manifests = len(snapshot.manifests(table.io))
    block.files = len(live_files(table, SPEC.partition_by))
    block.on_disk = len(list_files(table))


def check(table: Table, commits: int) -> None:
    """Make sure that every row is there once, and the offsets with them."""
    offsets = table.scan(selected_fields=("kafka_offset",)).to_arrow()["kafka_offset"].to_pylist()
    assert sorted(offsets) == list(range(commits * ROWS))
    assert Offsets.from_properties(table.properties) == Offsets({PLACE: commits * ROWS})


def show(title: str, blocks: list[Block]) -> None:
    print(f"\n{title}: {len(blocks) * BLOCK:,} commits of {ROWS:,} rows, figures of each {BLOCK}, times in ms\n")
    heads = (
        "up to commit",
        "commit, median",
        "p99",
        "its CPU, median",
        "files of the day",
        "scan, plan",
        "round, median (n)",
    )
    heads += ("metadata, KB", "snapshots", "manifests", "live files", "files on disk")
    print(f"| {' | '.join(heads)} |")
    print("|" + "---:|" * len(heads))
    for number, block in enumerate(blocks, 1):
        rounds = f"{median(block.rounds_ms):.0f} ({len(block.rounds_ms)})" if block.rounds_ms else "–"
        times = (median(block.commits_ms), quantiles(block.commits_ms, n=100)[98], median(block.commits_cpu_ms))
        plans = (median(block.live_files_ms), median(block.scan_ms))
        counts = (block.snapshots, block.manifests, block.files, block.on_disk)
        figures = " | ".join(f"{each:.1f}" for each in (*times, *plans))
        print(
            f"| {number * BLOCK:,} | {figures} | {rounds} | {block.metadata_kb:.0f} | {' | '.join(map(str, counts))} |"
        )


def picture(path: Path, runs: dict[str, list[Block]]) -> None:
    def panel(title: str, of: Callable[[Block], float]) -> Panel:
        lines = {name: [((n + 1) * BLOCK, of(b)) for n, b in enumerate(blocks)] for name, blocks in runs.items()}
        return Panel(title, lines)

    panels = [
        panel("commit, median of 300, ms", lambda block: median(block.commits_ms)),
        panel("CPU of a commit, median of 300, ms", lambda block: median(block.commits_cpu_ms)),
        panel("files of the day, median of 30, ms", lambda block: median(block.live_files_ms)),
        panel("plan of a filtered scan, median of 30, ms", lambda block: median(block.scan_ms)),
        panel("metadata file, KB", lambda block: block.metadata_kb),
    ]
    write_svg(path, "commits", panels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--commits", type=int, default=3_000)
    parser.add_argument("--without", type=int, default=900, help="commits of the run without maintenance")
    parser.add_argument("--picture", type=Path, help="write an SVG there")
    options = parser.parse_args()
    runs = {}
    for title, commits, maintained in (
        ("with maintenance", options.commits, True),
        ("without", options.without, False),
    ):
        with tempfile.TemporaryDirectory(prefix="k2-benchmark-") as home:
            runs[title] = list(run(Path(home), commits, maintained=maintained))
        show(title, runs[title])
    print(f"\n{machine()}")
    if options.picture:
        picture(options.picture, runs)


if __name__ == "__main__":
    main()
