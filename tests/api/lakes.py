"""Small lakes of real files with a real catalog, and builders for their rows."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.expressions import And, GreaterThanOrEqual, LessThan
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.table import Table

from k2_api.timestamps import parse_moment
from k2_core.lake.catalog import ensure_tables, open_catalog
from k2_core.lake.table_spec import TableSpec
from k2_core.lake.tables import GOLD_OHLCV_1M, GOLD_TRADES, REFERENCE_EPOCHS, all_tables
from k2_core.settings import Settings
from k2_core.trades import message_id

Row = dict[str, Any]
KEY = "a-key-of-the-tests"


def a_trade(
    trade_id: int = 1,
    at: str = "2024-08-08T23:55:00Z",
    *,
    symbol: str = "BTCUSDT",
    exchange: str = "binance",
    price: str = "61837.63",
    quantity: str = "0.02",
    **other: Any,
) -> Row:
    return {
        "message_id": message_id(exchange, symbol, str(trade_id)),
        "trade_id": str(trade_id),
        "symbol": symbol,
        "exchange": exchange,
        "asset_class": "crypto",
        "timestamp": parse_moment(at),
        "price": Decimal(price),
        "quantity": Decimal(quantity),
        "currency": "USDT",
        "side": "BUY",
        "trade_conditions": [],
        "source_sequence": trade_id,
        "ingestion_timestamp": parse_moment(at),
        "platform_sequence": trade_id,
        "vendor_data": {"E": "1723161300000"},
    } | other


def trades_from(
    first_id: int, count: int, at: str = "2024-08-08T23:55:00Z", every_ms: int = 1000, **other: Any
) -> list[Row]:
    """Return ``count`` trades with contiguous ids, ``every_ms`` apart."""
    start = parse_moment(at)
    return [
        a_trade(first_id + step, **other) | {"timestamp": start + step * timedelta(milliseconds=every_ms)}
        for step in range(count)
    ]


def a_quote(number: int = 1, at: str = "2024-08-08T23:55:00Z", *, sequence: int | None = None, **other: Any) -> Row:
    """Return a quote in which nobody offers."""
    return {
        "message_id": message_id("binance", "BTCUSDT", f"quote {number}"),
        "quote_id": str(number),
        "symbol": "BTCUSDT",
        "exchange": "binance",
        "asset_class": "crypto",
        "timestamp": parse_moment(at),
        "bid_price": Decimal("100.5"),
        "bid_quantity": Decimal(2),
        "ask_price": None,
        "ask_quantity": None,
        "currency": "USDT",
        "source_sequence": sequence,
        "ingestion_timestamp": parse_moment(at),
        "platform_sequence": number,
        "vendor_data": {},
    } | other


def a_candle(
    start: str = "2024-08-08T23:55:00Z",
    symbol: str = "BTCUSDT",
    exchange: str = "binance",
    *,
    missing: int = 0,
    complete: bool | None = None,
    **other: Any,
) -> Row:
    opens = parse_moment(start)
    return {
        "symbol": symbol,
        "exchange": exchange,
        "window_start": opens,
        "window_end": opens + timedelta(minutes=1),
        "window_date": opens.date(),
        "open_price": Decimal(100),
        "high_price": Decimal("101.5"),
        "low_price": Decimal("99.000000000001"),
        "close_price": Decimal("100.10"),
        "volume": Decimal("12.50000000"),
        "quote_volume": Decimal("1251.25"),
        "trade_count": 3,
        "vwap": Decimal("100.1"),
        "first_trade_id": "1",
        "last_trade_id": "3",
        "is_complete": missing == 0 if complete is None else complete,
        "missing_trades": missing,
        "created_at": opens,
        "updated_at": opens,
    } | other


@dataclass
class Lake:
    """A lake in its own home folder."""

    home: Path
    api: Mapping[str, Any] = field(default_factory=dict)
    catalog_settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        api = {"key": KEY, **self.api}
        self.settings = Settings.model_validate({"home": self.home, "api": api, "catalog": self.catalog_settings})
        self.catalog: Catalog = open_catalog(self.settings)
        ensure_tables(self.catalog, self.namespace, all_tables(("binance",)))

    @property
    def namespace(self) -> str:
        return self.settings.catalog.namespace

    def table(self, spec: TableSpec = GOLD_TRADES) -> Table:
        return self.catalog.load_table((self.namespace, spec.name))

    def add(self, rows: list[Row], spec: TableSpec = GOLD_TRADES) -> int:
        """Append rows in one commit; return its snapshot id."""
        table = self.table(spec)
        table.append(_arrow(rows, spec))
        return _newest(table)

    def add_candles(self, rows: list[Row]) -> int:
        return self.add(rows, GOLD_OHLCV_1M)

    def add_epoch(self, start: str, symbol: str = "BTCUSDT", exchange: str = "binance") -> None:
        moment = parse_moment(start)
        self.add([{"exchange": exchange, "symbol": symbol, "start": moment, "found_at": moment}], REFERENCE_EPOCHS)

    def replace(self, start: str, end: str, rows: list[Row], spec: TableSpec = GOLD_TRADES) -> int:
        """Replace a time range in one commit; return its last snapshot id."""
        table = self.table(spec)
        inside = And(GreaterThanOrEqual(spec.partition_by, start), LessThan(spec.partition_by, end))
        table.overwrite(_arrow(rows, spec), inside)
        return _newest(table)

    def expire(self, snapshot_id: int, spec: TableSpec = GOLD_TRADES) -> None:
        self.table(spec).maintenance.expire_snapshots().by_id(snapshot_id).commit()


def _arrow(rows: list[Row], spec: TableSpec) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=schema_to_pyarrow(spec.schema, include_field_ids=False))


def _newest(table: Table) -> int:
    snapshot = table.current_snapshot()
    assert snapshot is not None
    return snapshot.snapshot_id
