"""Query parameters of the routes: their forms, defaults and bounds. Any other parameter is refused."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

from k2_api.lake.file_index import Filter
from k2_api.timestamps import parse_moment
from k2_core.clock import to_us
from k2_core.lake.tables import GOLD_TRADES, SERVED

MAX_ROWS = 10_000
MAX_SNAPSHOTS = 100

ServedTable = StrEnum("ServedTable", {each.name: each.name for each in SERVED})  # type: ignore[misc]  # it knows literals

Symbol = Annotated[
    str,
    StringConstraints(pattern=r"^[\w.\-]{1,40}$", strip_whitespace=True),
    AfterValidator(str.upper),
    Field(description="base + quote without separator; upper or lower case", examples=["BTCUSDT"]),
]
Exchange = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9_]{1,40}$", strip_whitespace=True),
    AfterValidator(str.lower),
    Field(description="the market; `binance` is Binance spot", examples=["binance"]),
]
Moment = Annotated[
    datetime,
    BeforeValidator(parse_moment),
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
Format = Annotated[Literal["json"], Field(description="form of the answer")]
_FROM = "inclusive, RFC 3339; a time without a zone is UTC"
_UNTIL = "exclusive, RFC 3339; a time without a zone is UTC"


class _Parameters(BaseModel):
    # A misspelt parameter must not silently widen a query.
    model_config = ConfigDict(extra="forbid", frozen=True)

    def canonical(self) -> str:
        """Return the query as one text: equal for equal questions, whatever page of the answer is asked for."""
        return self.model_dump_json(exclude={"cursor", "limit"})


class TradesParameters(_Parameters):
    """Parameters of GET /v1/trades."""

    symbol: Symbol | None = None
    exchange: Exchange | None = None
    start_time: Moment | None = Field(None, description=_FROM)
    end_time: Moment | None = Field(None, description=_UNTIL)
    limit: Limit = 100
    cursor: Cursor = None
    order: Literal["desc", "asc"] = Field("desc", description="`desc`: newest first")
    as_of: AsOf = None
    format: Format = "json"

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        _check_order(("start_time", self.start_time), ("end_time", self.end_time))
        return self

    def where(self) -> Filter:
        return _filter(self.symbol, self.exchange, self.start_time, self.end_time)


class CandlesParameters(_Parameters):
    """Parameters of GET /v1/ohlcv/{interval}."""

    symbol: Symbol
    exchange: Exchange | None = None
    start: Moment | None = Field(None, description=f"of window_start, {_FROM}")
    end: Moment | None = Field(None, description=f"of window_start, {_UNTIL}")
    limit: Limit = 1000
    cursor: Cursor = None
    as_of: AsOf = None
    format: Format = "json"

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        _check_order(("start", self.start), ("end", self.end))
        return self

    def where(self) -> Filter:
        return _filter(self.symbol, self.exchange, self.start, self.end)


class SymbolsParameters(_Parameters):
    """Parameters of GET /v1/symbols."""

    exchange: Exchange | None = None
    as_of: AsOf = None
    format: Format = "json"

    def where(self) -> Filter:
        return Filter(exchange=self.exchange)


class InstrumentsParameters(_Parameters):
    """Parameters of GET /v1/instruments."""

    symbol: Symbol | None = None
    exchange: Exchange | None = None
    limit: Limit = 1000
    cursor: Cursor = None
    as_of: AsOf = None
    format: Format = "json"

    def where(self) -> Filter:
        return _filter(self.symbol, self.exchange, None, None)


class StatsParameters(_Parameters):
    """Parameters of GET /v1/stats."""

    format: Format = "json"


class SnapshotsParameters(_Parameters):
    """Parameters of GET /v1/snapshots."""

    table: ServedTable = Field(ServedTable(GOLD_TRADES.name), description="whose states are asked for")
    limit: int = Field(10, ge=1, le=MAX_SNAPSHOTS, description="most states in one answer, the newest")
    format: Format = "json"


def _check_order(start: tuple[str, datetime | None], end: tuple[str, datetime | None]) -> None:
    if start[1] is not None and end[1] is not None and start[1] >= end[1]:
        raise ValueError(f"{start[0]} must be before {end[0]}")


# A bound that is not given is the filter's own default: the least or the largest time.
def _filter(symbol: str | None, exchange: str | None, start: datetime | None, end: datetime | None) -> Filter:
    return Filter(
        symbol=symbol,
        exchange=exchange,
        start_us=Filter.start_us if start is None else to_us(start),
        end_us=Filter.end_us if end is None else to_us(end),
    )
