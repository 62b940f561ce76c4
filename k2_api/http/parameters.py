"""Query parameters of the routes: their forms, defaults and bounds. Any other parameter is refused."""

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

from k2_api.formats.formats import Format
from k2_api.lake.file_index import Filter
from k2_api.timestamps import parse_moment
from k2_core.clock import to_us

MAX_ROWS = 10_000


def _canonical_symbol(text: str) -> str:
    return text.upper().replace("/", "")


def _listed(value: object) -> object:
    """Return the parts of a text with commas between; what is a list already stays one."""
    return [each.strip() for each in value.split(",")] if isinstance(value, str) else value


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
        return self.model_dump_json(exclude={"cursor", "limit", "format"})


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

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        _check_order(("start_time", self.start_time), ("end_time", self.end_time))
        return self

    def where(self) -> Filter:
        return _filter((self.symbol,) if self.symbol else (), self.exchange, self.start_time, self.end_time)


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

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        _check_order(("start", self.start), ("end", self.end))
        return self

    def where(self) -> Filter:
        return _filter((self.symbol,) if self.symbol else (), self.exchange, self.start, self.end)


class SymbolsParameters(_Parameters):
    """Parameters of GET /v1/symbols."""

    exchange: Exchanges = ()
    as_of: AsOf = None
    format: Form = None

    def where(self) -> Filter:
        return Filter(exchanges=self.exchange)


def _check_order(start: tuple[str, datetime | None], end: tuple[str, datetime | None]) -> None:
    if start[1] is not None and end[1] is not None and start[1] >= end[1]:
        raise ValueError(f"{start[0]} must be before {end[0]}")


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
