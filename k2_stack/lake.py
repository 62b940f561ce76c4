"""What ``k2 status`` tells of the lake and of Kafka: rows, lag, newest candle. Reads metadata, changes nothing."""

import datetime as dt
from decimal import Decimal
from typing import Any, Final

from pyiceberg.catalog import Catalog
from pyiceberg.conversions import from_bytes
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.table import Table
from pyiceberg.types import TimestamptzType

from k2_assets.kafka_reader import KafkaReader
from k2_assets.kafka_topic import describe_topic
from k2_core import clock
from k2_core.errors import TopicError
from k2_core.offsets import Offsets
from k2_core.tables import GOLD_OHLCV_1M, all_tables, drained_from
from k2_core.venues import VENUES

_CANDLE: Final = ("symbol", "exchange", "window_start", "close_price", "trade_count", "is_complete")


def rows_by_table(catalog: Catalog, namespace: str) -> dict[str, int]:
    """Return how many rows each table holds, from its current snapshot's summary."""
    found = {}
    for spec in all_tables(tuple(VENUES)):
        try:
            found[spec.name] = rows_of(catalog.load_table((namespace, spec.name)))
        except NoSuchTableError:
            continue
    return found


def rows_of(table: Table) -> int:
    """Return how many rows a table holds, from its current snapshot's summary."""
    snapshot = table.current_snapshot()
    summary = snapshot.summary if snapshot else None
    return int(summary.additional_properties.get("total-records", 0)) if summary else 0


def lag_by_topic(catalog: Catalog, namespace: str, bootstrap_servers: str) -> tuple[dict[str, int], list[str]]:
    """Return how many messages of each drained topic are not committed to bronze yet, and what is wrong with offsets.

    A topic that is missing is left out. Where bronze's offset lies outside Kafka's log, a sentence says so: that is no
    lag, and not the absence of one either.

    Raises:
        KafkaException: Kafka stopped answering.
    """
    found: dict[str, int] = {}
    wrong: list[str] = []
    for name, (bronze, *_) in drained_from(VENUES).items():
        try:
            table = catalog.load_table((namespace, bronze.name))
            reader = KafkaReader(bootstrap_servers, describe_topic(bootstrap_servers, name), "k2-status")
        except (NoSuchTableError, TopicError):
            continue
        vector = Offsets.from_properties(table.properties)
        try:
            found[name] = reader.lag(vector)
            wrong += [outside.sentence() for outside in reader.outside(vector).values()]
        finally:
            reader.close()
    return found, wrong


def newest_candle(catalog: Catalog, namespace: str) -> dict[str, Any] | None:
    """Return the newest 1-minute candle; of several symbols the first by name. None when there is no candle.

    The files' own upper bounds tell where it stands, so that only those files are read.
    """
    try:
        table = catalog.load_table((namespace, GOLD_OHLCV_1M.name))
    except NoSuchTableError:
        return None
    newest = _newest_window(table)
    if newest is None:
        return None
    start = clock.from_us(newest).isoformat()
    rows = table.scan(f"window_start >= '{start}'", selected_fields=_CANDLE).to_arrow().to_pylist()
    first: dict[str, Any] | None = min(rows, key=lambda row: (row["symbol"], row["exchange"]), default=None)
    return {name: _plain(value) for name, value in first.items()} if first else None


def _newest_window(table: Table) -> int | None:
    snapshot = table.current_snapshot()
    if snapshot is None:
        return None
    column = table.schema().find_field("window_start").field_id
    bounds = [
        int(from_bytes(TimestamptzType(), bound))  # µs since 1970
        for manifest in snapshot.manifests(table.io)
        for entry in manifest.fetch_manifest_entry(table.io)
        if (bound := (entry.data_file.upper_bounds or {}).get(column))
    ]
    return max(bounds, default=None)


def _plain(value: object) -> object:
    if isinstance(value, dt.datetime):
        return clock.iso(value)
    if isinstance(value, Decimal):
        return f"{value.normalize():f}"
    return value
