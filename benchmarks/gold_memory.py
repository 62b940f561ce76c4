"""Whether commits of gold stay flat with a long memory: 400 days of three venues, remembered with every commit.

Run it with ``.venv/bin/python benchmarks/gold_memory.py``; it builds its lake in a temporary folder.
"""

import argparse
import json
import tempfile
import time
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from statistics import median

from pyiceberg.table import Table
from real_parts import machine

from k2_assets.lake.commits import Change, arrow_schema, commit_derived
from k2_core.lake.catalog import ensure_tables, open_catalog
from k2_core.lake.source_memory import SEEN
from k2_core.lake.tables import GOLD_TRADES
from k2_core.settings import Settings

FIRST = date(2025, 1, 1)


def measure(days: int, commits: int) -> str:
    seen = {(FIRST + timedelta(days=number)).isoformat(): 1_000_000 + number for number in range(days)}
    cpu_ms: list[float] = []
    with tempfile.TemporaryDirectory(prefix="k2-benchmark-") as home:
        settings = Settings(home=Path(home))
        catalog, namespace = open_catalog(settings), settings.catalog.namespace
        ensure_tables(catalog, namespace, [GOLD_TRADES])
        rows = arrow_schema(GOLD_TRADES).empty_table()
        for number in range(commits):
            change = Change(rows, None, {SEEN: json.dumps({f"{each}-{number}": seen for each in range(3)})})
            began = time.process_time()
            table, _ = commit_derived(lambda: catalog.load_table((namespace, GOLD_TRADES.name)), partial(_same, change))
            cpu_ms.append((time.process_time() - began) * 1000)
        size = len(table.io.new_input(table.metadata_location).open().read()) / 1e3
    third = commits // 3
    first, last = median(cpu_ms[:third]), median(cpu_ms[-third:])
    return (
        f"{days} days of three venues: CPU of a commit, median of the first {third}: {first:.1f} ms, of the last: "
        f"{last:.1f} ms; then {len(table.snapshots())} snapshots, {size:.0f} kB of metadata"
    )


def _same(change: Change, _table: Table) -> Change:
    return change


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=400)
    parser.add_argument("--commits", type=int, default=120)
    options = parser.parse_args()
    for days in (0, options.days):
        print(measure(days, options.commits))
    print(machine())


if __name__ == "__main__":
    main()
