"""Query parameters of the routes: their forms, defaults and bounds. Any other parameter is refused."""

from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

from k2_api.formats.formats import Format
from k2_api.lake.file_index import Filter
from k2_api.queries.row_pages import KINDS, Bound, DataType
from k2_api.timestamps import parse_moment
from k2_core.clock import to_us
from k2_core.lake.tables import GOLD_TRADES, SERVED

MAX_ROWS = 10_000
MAX_SNAPSHOTS = 100

ServedTable = StrEnum("ServedTable", {each.name: each.name for each in SERVED})  # type: ignore[misc]  # it knows literals


def _canonical_symbol(text: str) -> str:
    return text.upper().replace("/", "")


def _listed(value: object) -> object:
    """Return the parts of texts with commas between."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, (list, tuple)):
        return value
    return [part for each in texts for part in (each.split(",") if isinstance(each, str) else [each])]


def _moment(value: object) -> datetime:
    # A number in a JSON body is milliseconds, as in a URL.
    if isinstance(value, (str, int)) and not isinstance(value, bool):
        return parse_moment(str(value))
    raise ValueError("is not a time such as 2024-08-08T23:55:00Z, nor milliseconds since 1970")


Symbol = Annotated[
    str,
    StringConstraints(pattern=r"^[\w.\-]{1,40}(/[\w.\-]{1,40})?$", strip_whitespace=True),
    AfterValidator(_canonical_symbol),
    Field(description="base and quote, `BTCUSDT` or `BTC/USDT`; upper or lower case", examples=["BTCUSDT"]),
]
Exchange = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9_]{1,40}$", strip_whitespace=True),
    AfterValidator(str.lower),
    Field(description="the market; `binance` is Binance spot", examples=["binance"]),
]
Exchanges = Annotated[
    tuple[Exchange, ...],
    BeforeValidator(_listed, json_schema_input_type=str),
    Field(
        max_length=20, description="one market or several, with commas between; none: all", examples=["binance,kraken"]
    ),
]
Moment = Annotated[
    datetime,
    BeforeValidator(_moment, json_schema_input_type=str | int),
    Field(examples=["2024-08-08T23:55:00Z"]),
]
Limit = Annotated[int, Field(ge=1, le=MAX_ROWS, description="most rows in one answer")]
Cursor = Annotated[
    str | None,
    Field(
        description="`pagination.next_cursor` of the answer before, sent with the same other parameters. "
        "All pages show the data of the first one's snapshot.",
        max_length=2048,
    ),
]
AsOf = Annotated[
    str | None,
    Field(
        description="show the table as it was: a tag, a snapshot id, or a time, which means the newest snapshot that "
        "is kept and not later. 404: no such tag or snapshot; 410: earlier than what is kept.",
        min_length=1,
        max_length=128,
    ),
]
Form = Annotated[
    Format | None, Field(description="form of the answer; by default the one that the header Accept names, or JSON")
]
_FROM = "inclusive, RFC 3339; a time without a zone is UTC"
_UNTIL = "exclusive, RFC 3339; a time without a zone is UTC"


class _Parameters(BaseModel):
    # A misspelt parameter must not silently widen a query.
    model_config = ConfigDict(extra="forbid", frozen=True)

    def canonical(self) -> str:
        """Return the query as one text: equal for equal questions, whatever page of the answer is asked for."""
        return self.model_dump_json(exclude={"cursor", "limit", "batch_size", "format"})

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        for first, last in (("start_time", "end_time"), ("start", "end")):
            begin, end = getattr(self, first, None), getattr(self, last, None)
            if begin is not None and end is not None and begin >= end:
                raise ValueError(f"{first} must be before {last}")
        return self


class RowsParameters(_Parameters):
    """Parameters of GET /v1/trades and /v1/quotes."""

    symbol: Symbol | None = None
    exchange: Exchanges = ()
    start_time: Moment | None = Field(None, description=_FROM)
    end_time: Moment | None = Field(None, description=_UNTIL)
    limit: Limit = 100
    cursor: Cursor = None
    order: Literal["desc", "asc"] = Field("desc", description="`desc`: newest first")
    as_of: AsOf = None
    format: Form = None

    def where(self) -> Filter:
        return _filter(_one(self.symbol), self.exchange, self.start_time, self.end_time)


TradeField = StrEnum("TradeField", {name: name for name in KINDS["trades"].columns})  # type: ignore[misc]  # it knows literals
QuoteField = StrEnum("QuoteField", {name: name for name in KINDS["quotes"].columns})  # type: ignore[misc]
Symbols = Annotated[tuple[Symbol, ...], Field(max_length=100, description="up to 100; none: all")]
MAX_JSON_ROWS, MAX_STREAMED_ROWS = 100_000, 10_000_000


class _RowsBody(_Parameters):
    """What the bodies of all questions for trades and quotes have."""

    symbols: Symbols = ()
    exchanges: Annotated[tuple[Exchange, ...], Field(max_length=20, description="none: all")] = ()
    start_time: Moment | None = Field(None, description=_FROM)
    end_time: Moment | None = Field(None, description=_UNTIL)
    order: Literal["desc", "asc"] = Field("desc", description="`desc`: newest first")
    min_price: Decimal | None = Field(None, description="of quotes: of the bid", max_digits=28, decimal_places=12)
    max_price: Decimal | None = Field(None, description="of quotes: of the offer", max_digits=28, decimal_places=12)
    min_quantity: Decimal | None = Field(None, description="of quotes: of both", max_digits=28, decimal_places=8)
    limit: int = Field(
        1000,
        ge=1,
        le=MAX_STREAMED_ROWS,
        description=f"most rows; in JSON up to {MAX_JSON_ROWS:,}, of other forms more are sent as they are read",
    )
    cursor: Cursor = None
    as_of: AsOf = None
    format: Form = None

    def where(self) -> Filter:
        return _filter(self.symbols, self.exchanges, self.start_time, self.end_time)


class TradesBody(_RowsBody):
    """The body of POST /v1/trades/query."""

    fields: tuple[TradeField, ...] = Field((), description="columns in the order of the answer; none: all")

    def bounds(self) -> tuple[Bound, ...]:
        """Return the bounds of prices and quantities that are given."""
        wanted: list[Bound] = [
            ("price", ">=", self.min_price),
            ("price", "<=", self.max_price),
            ("quantity", ">=", self.min_quantity),
        ]
        return tuple(each for each in wanted if each[2] is not None)


class QuotesBody(_RowsBody):
    """The body of POST /v1/quotes/query."""

    fields: tuple[QuoteField, ...] = Field((), description="columns in the order of the answer; none: all")

    def bounds(self) -> tuple[Bound, ...]:
        """Return the bounds of prices and quantities that are given."""
        wanted: list[Bound] = [
            ("bid_price", ">=", self.min_price),
            ("ask_price", "<=", self.max_price),
            ("bid_quantity", ">=", self.min_quantity),
            ("ask_quantity", ">=", self.min_quantity),
        ]
        return tuple(each for each in wanted if each[2] is not None)


class SnapshotBody(_Parameters):
    """The body of POST /v1/snapshots/{id}/query."""

    data_type: DataType = "trades"
    symbol: Symbol | None = None
    exchange: Exchange | None = None
    limit: int = Field(1000, ge=1, le=MAX_JSON_ROWS, description="most rows in one answer")
    cursor: Cursor = None
    format: Form = None

    def where(self) -> Filter:
        return _filter(_one(self.symbol), _one(self.exchange), None, None)


class ReplayBody(_Parameters):
    """The body of POST /v1/replay."""

    data_type: DataType = "trades"
    symbols: Symbols = ()
    exchange: Exchange | None = None
    start: Moment = Field(description=_FROM)
    end: Moment = Field(description=_UNTIL)
    batch_size: int = Field(1000, ge=100, le=MAX_ROWS, description="rows of a page")
    snapshot_id: str | None = Field(None, pattern=r"^\d{1,20}$", description="of the table; none: the newest")
    cursor: Cursor = None
    format: Form = None

    def where(self) -> Filter:
        return _filter(self.symbols, _one(self.exchange), self.start, self.end)


class CandlesParameters(_Parameters):
    """Parameters of GET /v1/ohlcv/{interval}."""

    symbol: Symbol
    exchange: Exchanges = ()
    start: Moment | None = Field(None, description=f"of window_start, {_FROM}")
    end: Moment | None = Field(None, description=f"of window_start, {_UNTIL}")
    limit: Limit = 1000
    cursor: Cursor = None
    as_of: AsOf = None
    format: Form = None

    def where(self) -> Filter:
        return _filter(_one(self.symbol), self.exchange, self.start, self.end)


class SymbolsParameters(_Parameters):
    """Parameters of GET /v1/symbols."""

    exchange: Exchanges = ()
    as_of: AsOf = None
    format: Form = None

    def where(self) -> Filter:
        return Filter(exchanges=self.exchange)


class InstrumentsParameters(_Parameters):
    """Parameters of GET /v1/instruments."""

    symbol: Symbol | None = None
    exchange: Exchanges = ()
    limit: Limit = 1000
    cursor: Cursor = None
    as_of: AsOf = None
    format: Form = None

    def where(self) -> Filter:
        return _filter(_one(self.symbol), self.exchange, None, None)


class StatsParameters(_Parameters):
    """Parameters of GET /v1/stats."""

    format: Form = None


class SnapshotsParameters(_Parameters):
    """Parameters of GET /v1/snapshots."""

    table: ServedTable = Field(ServedTable(GOLD_TRADES.name), description="whose states are asked for")
    limit: int = Field(10, ge=1, le=MAX_SNAPSHOTS, description="most states in one answer, the newest")
    format: Form = None


def _one(value: str | None) -> tuple[str, ...]:
    return () if value is None else (value,)


# A bound that is not given is the filter's own default: the least or the largest time.
def _filter(
    symbols: tuple[str, ...], exchanges: tuple[str, ...], start: datetime | None, end: datetime | None
) -> Filter:
    return Filter(
        symbols=symbols,
        exchanges=exchanges,
        start_us=Filter.start_us if start is None else to_us(start),
        end_us=Filter.end_us if end is None else to_us(end),
    )
