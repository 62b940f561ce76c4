"""What ``k2 status`` reports of the lake's rows: the newest candle, and ids that feeds missed. Nothing here writes."""

import datetime as dt
import tempfile
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from k2_core import clock
from k2_core.lake.manifests import END_US, LakeFile
from k2_core.timeframes import ONE_MINUTE
from k2_stack.iceberg_metadata import LakeTable

CANDLES: Final = f"gold_ohlcv_{ONE_MINUTE.name}"
EVENTS: Final = "bronze_feed_events"
GAPS_OF_S: Final = 86_400.0

_CANDLE: Final = """
    SELECT symbol, exchange, epoch_us(window_start), close_price::VARCHAR, trade_count, is_complete
    FROM read_parquet($files) WHERE epoch_us(window_start) = $newest ORDER BY symbol, exchange LIMIT 1"""
_GAPS_AND_RECOVERIES: Final = """
    SELECT venue, symbol, kind, details['first_missing'], details['last_missing']
    FROM read_parquet($files)
    WHERE epoch_us(ingestion_timestamp) >= $since
      AND (kind = 'gap' OR kind = 'recovered' AND details['state'] = 'gap')
    ORDER BY at_ns, kafka_partition, kafka_offset"""

Ids = tuple[int, int]
"""The first id and the last one, both included."""


def newest_candle(tables: dict[str, LakeTable]) -> dict[str, Any] | None:
    """Return the newest 1-minute candle; of several symbols the first by name. None when there is no candle.

    Only the files whose upper bound is the newest time are read.
    """
    table = tables.get(CANDLES)
    newest, files = _newest(table, "window_start", 0) if table else (0, [])
    if table is None or not files:
        return None
    rows = _query(table, files, _CANDLE, newest=newest)
    if not rows:
        return None
    symbol, exchange, start_us, close, count, complete = rows[0]
    return {
        "symbol": symbol,
        "exchange": exchange,
        "window_start": clock.iso(clock.from_us(start_us)),
        "close_price": f"{Decimal(close).normalize():f}",
        "trade_count": count,
        "is_complete": complete,
    }


def open_gaps(tables: dict[str, LakeTable], now: dt.datetime) -> dict[tuple[str, str], list[Ids]]:
    """Return the ids that feeds missed within the last day and that did not come late, by (venue, symbol).

    A gap event adds ids, a recovery removes them. Two feeds that overlap in a hand-over may both report the same gap,
    so a gap first takes the place of what it overlaps.
    """
    table, since = tables.get(EVENTS), clock.to_us(now) - int(GAPS_OF_S * clock.US_PER_SECOND)
    _, files = _newest(table, "ingestion_timestamp", since) if table else (0, [])
    if table is None or not files:
        return {}
    found: dict[tuple[str, str], list[Ids]] = {}
    for venue, symbol, kind, first, last in _query(table, files, _GAPS_AND_RECOVERIES, since=since):
        if not (str(first).isdecimal() and str(last).isdecimal()):  # an event of another version of the feed
            continue
        ids = int(first), int(last)
        left = without(found.get((venue, symbol), []), ids)
        found[venue, symbol] = [*left, ids] if kind == "gap" else left
    return {instrument: gaps for instrument, gaps in found.items() if gaps}


def without(gaps: Iterable[Ids], ids: Ids) -> list[Ids]:
    """Return ``gaps`` without ``ids``; a gap becomes two when they lie in its middle."""
    first, last = ids
    parts = [part for low, high in gaps for part in ((low, min(high, first - 1)), (max(low, last + 1), high))]
    whole = [gap for gap in gaps if gap[1] < first or gap[0] > last]
    return sorted({*whole, *((low, high) for low, high in parts if low <= high)})


def _newest(table: LakeTable, column: str, since_us: int) -> tuple[int, list[LakeFile]]:
    """Return the newest time of a column in µs, and the files that reach ``since_us``, or that time when it is 0."""
    # Each manifest entry holds the largest value of each column of its file: no data file is opened for this.
    files = [file for file in table.files(column) if file.last_us != END_US]
    newest = max((file.last_us for file in files), default=0)
    return newest, [file for file in files if file.last_us >= (since_us or newest)]


def _query(table: LakeTable, files: list[LakeFile], sql: str, **values: int) -> list[tuple[Any, ...]]:
    """Run SQL over data files; files of a warehouse that is not on this machine are copied first."""
    import duckdb  # noqa: PLC0415  # takes a quarter of a second; a lake without rows needs none

    with tempfile.TemporaryDirectory(prefix="k2-status-") as folder:
        paths = []
        for number, file in enumerate(files):
            found = table.open(file)
            if isinstance(found, bytes):  # DuckDB reads paths; only pyiceberg reads a store of the user's own
                copy = Path(folder) / f"{number}.parquet"
                copy.write_bytes(found)
                found = str(copy)
            paths.append(found)
        with duckdb.connect(config={"threads": 1}) as connection:
            return connection.execute(sql, {"files": paths, **values}).fetchall()
