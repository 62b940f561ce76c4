"""The shapes of answers, for OpenAPI and for tests. envelope.py writes the answers themselves."""

from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, Field

MAX_GAPS = 20
Data = TypeVar("Data")
Number = Annotated[str, Field(description="decimal text: no trailing zeros, no exponent", examples=["61837.63"])]
Time = Annotated[str, Field(description="RFC 3339, UTC, microseconds", examples=["2024-08-08T23:55:00.000000Z"])]


class Trade(BaseModel):
    """One trade of gold, where each appears once."""

    message_id: str = Field(description="UUIDv5 of (exchange, symbol, trade_id)")
    trade_id: str
    symbol: str = Field(examples=["BTCUSDT"])
    exchange: str = Field(examples=["binance"])
    asset_class: str = Field(examples=["crypto"])
    timestamp: Time
    price: Number
    quantity: Number
    currency: str = Field(examples=["USDT"])
    side: Literal["BUY", "SELL", "SELL_SHORT", "UNKNOWN"] = Field(description="the aggressor's")
    trade_conditions: list[str]
    source_sequence: int = Field(description="the venue's trade id as an integer")
    ingestion_timestamp: Time
    platform_sequence: int = Field(description="the Kafka offset")
    vendor_data: dict[str, str]


class Quote(BaseModel):
    """The best bid and offer of one venue, when they changed."""

    message_id: str = Field(description="UUIDv5 of the quote's identity")
    quote_id: str
    symbol: str = Field(examples=["BTCUSDT"])
    exchange: str = Field(examples=["binance"])
    asset_class: str = Field(examples=["crypto"])
    timestamp: Time
    bid_price: Number | None
    bid_quantity: Number | None
    ask_price: Number | None
    ask_quantity: Number | None
    currency: str = Field(examples=["USDT"])
    source_sequence: int | None
    ingestion_timestamp: Time
    platform_sequence: int
    vendor_data: dict[str, str]


class Candle(BaseModel):
    """One candle; a window without a trade has none."""

    symbol: str = Field(examples=["BTCUSDT"])
    exchange: str = Field(examples=["binance"])
    window_start: Time
    window_end: Time
    window_date: str = Field(examples=["2024-08-08"])
    open_price: Number
    high_price: Number
    low_price: Number
    close_price: Number
    volume: Number
    quote_volume: Number | None = Field(description="Σ price × quantity; null when it has over 18 whole digits")
    trade_count: int
    vwap: Number
    first_trade_id: str
    last_trade_id: str
    is_complete: bool = Field(description="ids run without a hole from the last trade before to the first one after")
    missing_trades: int = Field(description="ids missing between the trades that bound the window")
    created_at: Time
    updated_at: Time


class Symbol(BaseModel):
    """One symbol of one exchange."""

    symbol: str = Field(examples=["BTCUSDT"])
    exchange: str = Field(examples=["binance"])
    trade_count: int
    first_trade_at: Time
    last_trade_at: Time


class Instrument(BaseModel):
    """One version of an instrument: what a venue said of it from `valid_from` until `valid_to`."""

    exchange: str = Field(examples=["binance"])
    venue_symbol: str = Field(description="as the venue spells it", examples=["BTCUSDT"])
    symbol: str = Field(examples=["BTCUSDT"])
    base: str = Field(examples=["BTC"])
    quote: str = Field(examples=["USDT"])
    tick_size: Number | None = Field(description="smallest step of a price; null if the venue names none")
    lot_size: Number | None = Field(description="smallest step of a quantity; null if the venue names none")
    status: Literal["trading", "restricted", "halted", "delisted", "unknown"]
    venue_status: str = Field(description="in the venue's own words")
    tier: int = Field(description="1: it is fed; 2: another that can be traded; 3: the rest")
    asset_class: str = Field(examples=["crypto"])
    valid_from: Time
    valid_to: Time | None = Field(description="exclusive; null while this version holds")
    fetched_at: Time
    source: str = Field(description="URL of the venue's list")


class TableStats(BaseModel):
    """How much one table holds now."""

    table: str = Field(examples=["gold_crypto_trades"])
    rows: int
    bytes: int = Field(description="of the files of its newest state; kept earlier states may have others")
    files: int
    newest_at: Time | None = Field(description="newest time in it: of an event, of a candle's start, of a validity")
    snapshots: int = Field(description="states that `as_of` can name")
    committed_at: Time | None = Field(description="when it changed last; null while it has no rows")


class TableSnapshot(BaseModel):
    """One state of a table, as a commit left it."""

    snapshot_id: str = Field(description="text, since it exceeds what JSON's numbers hold")
    tags: list[str] = Field(examples=[["auto-day-2026-11-21", "report-2026-11"]])
    committed_at: Time
    operation: Literal["append", "overwrite", "replace", "delete"] | None
    rows: int = Field(description="of the whole table in this state")
    rows_added: int = Field(description="written by the commit; an overwrite took others away")
    files_added: int


class Pagination(BaseModel):
    """Whether there is more, and how to ask for it."""

    limit: int | None
    next_cursor: str | None = Field(description="send it as `cursor`, with the same other parameters")
    has_more: bool


class Gap(BaseModel):
    """Trades known to be missing; start and end are the times of the trades on either side."""

    exchange: str
    symbol: str
    start: Time
    end: Time
    missing: int
    state: Literal["open"]


class Completeness(BaseModel):
    """What the answer lacks. `unknown`: no trade is known to be missing, but it is not proved that all are there."""

    status: Literal["complete", "partial", "unknown"]
    missing_trades: int = Field(description="ids known to be missing, each counted once")
    gaps: list[Gap] = Field(description=f"the first {MAX_GAPS} of them")
    data_until: Time | None = Field(description="newest trade of this symbol and exchange; null if there is none")


class ErrorMeta(BaseModel):
    """Where to look when something went wrong."""

    correlation_id: str = Field(description="of X-Correlation-ID; every log line of the request carries it")
    timestamp: Time


class Meta(ErrorMeta):
    """The table and the snapshot that the answer was read from."""

    table: str | None = Field(description="null: the answer is about several tables")
    snapshot_id: str | None = Field(description="null while the table has no rows")
    as_of: Time | None = Field(description="when that snapshot was committed")
    completeness: Completeness


class Envelope(BaseModel, Generic[Data]):
    """Every answer of a data route."""

    success: Literal[True]
    data: list[Data]
    pagination: Pagination
    meta: Meta


class Problem(BaseModel):
    """What went wrong, for programs and for people."""

    code: str = Field(examples=["invalid_parameters"])
    message: str
    details: Any = None


class ErrorEnvelope(BaseModel):
    """Every answer that is an error."""

    success: Literal[False]
    error: Problem
    meta: ErrorMeta
