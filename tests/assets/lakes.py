"""Small lakes of real files with a real catalog, and builders of rows for their silver and gold."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from k2_assets.gold.refresh_candles import CandlesRefresh
from k2_assets.gold.refresh_rows import GoldRefresh
from k2_assets.lake.commits import arrow_schema
from k2_assets.lake.rebuilt_days import Taken
from k2_assets.lake.source_files import Seen, live_files
from k2_assets.maintenance.file_removal import list_files
from k2_core import quotes
from k2_core.lake import tables
from k2_core.lake.catalog import ensure_tables, open_catalog
from k2_core.lake.table_spec import TableSpec
from k2_core.lake.tables import CANDLES, GOLD_OHLCV_1M, GOLD_QUOTES, GOLD_TABLES, GOLD_TRADES, all_tables
from k2_core.settings import Settings
from k2_core.trades import message_id
from tests.assets import empty_lakes

Row = dict[str, Any]
DAY = date(2024, 8, 9)
NOON = datetime(2024, 8, 9, 12, tzinfo=UTC)
SILVER = tables.silver_trades("binance")
SILVER_QUOTES = tables.silver("binance", "quotes")


def a_trade(
    trade_id: int = 1,
    at: datetime | float = NOON,
    *,
    price: str = "100",
    quantity: str = "1",
    symbol: str = "BTCUSDT",
    received_ns: int | None = None,
    offset: int | None = None,
    **other: Any,
) -> Row:
    """A row of silver; ``at`` is a time, or seconds after noon."""
    moment = at if isinstance(at, datetime) else NOON + timedelta(seconds=at)
    exchange = other.get("exchange", "binance")
    return {
        "message_id": message_id(exchange, symbol, str(trade_id)),
        "trade_id": str(trade_id),
        "symbol": symbol,
        "exchange": exchange,
        "asset_class": "crypto",
        "timestamp": moment,
        "price": Decimal(price),
        "quantity": Decimal(quantity),
        "currency": "USDT",
        "side": "BUY",
        "trade_conditions": [],
        "source_sequence": trade_id,
        "ingestion_timestamp": moment,
        "platform_sequence": trade_id if offset is None else offset,
        "vendor_data": {},
        "kafka_topic": "topic",
        "topic_id": "topic-uuid",
        "kafka_partition": 0,
        "kafka_offset": trade_id if offset is None else offset,
        "frame_index": 0,
        "received_ns": trade_id if received_ns is None else received_ns,
    } | other


def a_quote(
    update_id: int | None = 1,
    at: datetime | float = NOON,
    *,
    bid: str | None = "99",
    ask: str | None = "101",
    symbol: str = "BTCUSDT",
    offset: int = 0,
    **other: Any,
) -> Row:
    """A row of silver quotes, stamped at receipt if it has an id; ``at`` is a time, or seconds after noon."""
    moment = at if isinstance(at, datetime) else NOON + timedelta(seconds=at)
    exchange = other.get("exchange", "binance")
    identity = other.get("quote_id", str(update_id))
    return {
        "message_id": quotes.message_id(exchange, symbol, identity),
        "quote_id": identity,
        "symbol": symbol,
        "exchange": exchange,
        "asset_class": "crypto",
        "timestamp": moment,
        "bid_price": None if bid is None else Decimal(bid),
        "bid_quantity": None if bid is None else Decimal(1),
        "ask_price": None if ask is None else Decimal(ask),
        "ask_quantity": None if ask is None else Decimal(2),
        "currency": "USDT",
        "source_sequence": update_id,
        "ingestion_timestamp": moment,
        "platform_sequence": offset,
        "vendor_data": {},
        "kafka_topic": "topic",
        "topic_id": "topic-uuid",
        "kafka_partition": 0,
        "kafka_offset": offset,
        "frame_index": 0,
        "received_ns": int(moment.timestamp()) * 1_000_000_000 + moment.microsecond * 1000,
    } | other


def trades_of(ids: Sequence[int], seconds_apart: float = 1.0, start: float = 0.0, **other: Any) -> list[Row]:
    return [a_trade(number, start + step * seconds_apart, **other) for step, number in enumerate(ids)]


@dataclass
class SmallLake:
    """A lake in its own home folder."""

    home: Path

    def __post_init__(self) -> None:
        self.settings = Settings(home=self.home)
        there_already = (self.home / "catalog.db").exists()
        if not there_already:
            empty_lakes.copy_to(self.home)
        self.catalog: Catalog = open_catalog(self.settings)
        self.namespace = self.settings.catalog.namespace
        if there_already:
            ensure_tables(self.catalog, self.namespace, all_tables(("binance",)))

    def table(self, spec: TableSpec) -> Table:
        return self.catalog.load_table((self.namespace, spec.name))

    def append(self, spec: TableSpec, rows: list[Row]) -> None:
        """Append rows past our own writer; columns that the table does not have are left out."""
        self.table(spec).append(to_arrow(spec, rows))

    def rows(self, spec: TableSpec) -> list[Row]:
        found: list[Row] = self.table(spec).scan().to_arrow().to_pylist()
        return found

    def snapshots(self, spec: TableSpec) -> int:
        return len(self.table(spec).snapshots())

    def metadata_location(self, spec: TableSpec) -> str:
        return self.table(spec).metadata_location

    def trades_refresh(self, day: date = DAY) -> GoldRefresh:
        return GoldRefresh(self.catalog, self.namespace, (SILVER.name,), day, "trades")

    def quotes_refresh(self, day: date = DAY) -> GoldRefresh:
        return GoldRefresh(self.catalog, self.namespace, (SILVER_QUOTES.name,), day, "quotes")

    def candles_refresh(self, day: date = DAY, spec: TableSpec = GOLD_OHLCV_1M) -> CandlesRefresh:
        return CandlesRefresh(self.catalog, self.namespace, spec, day)

    def days_behind(self, name: str, source: str) -> set[date]:
        """The days of a derived table whose source has news for it."""
        derived, table = (self.catalog.load_table((self.namespace, each)) for each in (name, source))
        time = next(each.partition_by for each in all_tables(("binance",)) if each.name == source)
        return Seen.of(derived).behind(table, live_files(table, time)) | Taken.of(derived).behind(table)

    def refresh_wider_candles(self) -> None:
        """Refresh the days of which candles of more than a minute have news."""
        for spec in CANDLES[1:]:
            for day in sorted(self.days_behind(spec.name, GOLD_OHLCV_1M.name)):
                self.candles_refresh(day, spec).take_in_news()

    def gold(self) -> dict[str, Row]:
        """Gold's trades by message id; fails when one appears twice."""
        rows = self.rows(GOLD_TRADES)
        by_id = {row["message_id"]: row for row in rows}
        assert len(by_id) == len(rows), "gold holds a trade twice"
        return by_id

    def gold_quotes(self) -> dict[str, Row]:
        """Gold's quotes by message id; fails when one appears twice."""
        rows = self.rows(GOLD_QUOTES)
        by_id = {row["message_id"]: row for row in rows}
        assert len(by_id) == len(rows), "gold holds a quote twice"
        return by_id

    def candles(self) -> dict[tuple[str, datetime], Row]:
        """The candles by symbol and start; fails when one appears twice."""
        rows = self.rows(GOLD_OHLCV_1M)
        by_window = {(row["symbol"], row["window_start"]): row for row in rows}
        assert len(by_window) == len(rows), "a window has two candles"
        return by_window


def gold_of(source: TableSpec) -> list[str]:
    """Return the tables of gold that follow from a table, in the order in which a day of them is refreshed."""
    found = [source.name]
    for spec in GOLD_TABLES.values():
        if not set(spec.made_from).isdisjoint(found):
            found.append(spec.name)
    return found[1:]


def to_arrow(spec: TableSpec, rows: list[Row]) -> pa.Table:
    schema = arrow_schema(spec)
    return pa.Table.from_pylist([{name: row[name] for name in schema.names} for row in rows], schema=schema)


def files_on_disk(lake: SmallLake, spec: TableSpec = SILVER) -> set[str]:
    return {info.path for info in list_files(lake.table(spec))}


def data_on_disk(lake: SmallLake, spec: TableSpec = SILVER) -> set[str]:
    return {path for path in files_on_disk(lake, spec) if path.endswith(".parquet")}


def ids_of(lake: SmallLake, snapshot_id: int | None = None) -> list[int]:
    """Silver's trade ids, now or at a snapshot."""
    rows = lake.table(SILVER).scan(snapshot_id=snapshot_id).to_arrow()
    return sorted(rows["source_sequence"].to_pylist())


def current_id(lake: SmallLake, spec: TableSpec = SILVER) -> int:
    snapshot = lake.table(spec).current_snapshot()
    assert snapshot is not None
    return snapshot.snapshot_id
