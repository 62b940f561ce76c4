"""What differs between trades and quotes: how each is read from a frame and judged, and its own columns. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from k2_core import quotes, trades
from k2_core.instruments import Instrument
from k2_core.trades import PRICE_PRECISION, PRICE_SCALE, QUANTITY_PRECISION, QUANTITY_SCALE
from k2_core.venues.routing import Data, Quotes, Trades
from k2_core.venues.venue_protocol import Venue

Numbers = Mapping[str, list[str | None]]
"""Numbers as plain text by field; None is a missing side of a quote."""
Columns = dict[str, pa.Array]
Parser = Callable[[bytes], Trades | Quotes | None]

_PRICE: Final = (PRICE_PRECISION, PRICE_SCALE)
_QUANTITY: Final = (QUANTITY_PRECISION, QUANTITY_SCALE)


@dataclass(frozen=True)
class Rules:
    """What a row of silver needs to know of its kind of data.

    Args:
        parser: returns a venue's function from a frame to rows.
        other_parser: that of the other kind of data.
        bad: the class of rows that the parser could not read.
        id_name: the field, and the column, of the venue's id.
        numbers: precision and scale of each field that is a number.
        check: raises MalformedFrame for a row that breaks a rule.
        message_ids: of many rows: exchange, symbols, ids.
        columns: those of this kind alone, of rows.
        vendor_data: texts by key of many rows, by their numbers as decimals; None where a row has none.
    """

    parser: Callable[[Venue], Parser]
    other_parser: Callable[[Venue], Parser]
    bad: type[trades.BadTrade] | type[quotes.BadQuote]
    id_name: str
    numbers: Mapping[str, tuple[int, int]]
    check: Callable[[Any, Instrument | None, int], None]
    message_ids: Callable[[str, Sequence[str], Sequence[str]], npt.NDArray[np.bytes_]]
    columns: Callable[[Sequence[Any]], Columns]
    vendor_data: Callable[[Mapping[str, pl.Series]], dict[str, list[str | None]]]


def is_plain_positive(texts: list[str | None], precision: int, scale: int) -> npt.NDArray[np.bool_]:
    """Return which texts are digits, a point and digits, above zero and within the decimal's bounds; None is not."""
    column = pl.Series(texts, dtype=pl.String)
    plain = column.str.contains(rf"^[0-9]{{1,{precision - scale}}}(\.[0-9]{{1,{scale}}})?$")
    positive = column.str.contains("[1-9]")
    return (plain & positive).fill_null(value=False).to_numpy()


def conditions(bids: pl.Series, asks: pl.Series) -> list[str | None]:
    """Return :func:`k2_core.quotes.condition` of many quotes, by their prices as decimals."""
    bid, ask = pl.col("bid"), pl.col("ask")
    found = (
        pl.when(bid.is_null() & ask.is_null())
        .then(pl.lit("empty"))
        .when(bid.is_null() | ask.is_null())
        .then(pl.lit("one_sided"))
        .when(bid > ask)
        .then(pl.lit("crossed"))
        .when(bid == ask)
        .then(pl.lit("locked"))
    )
    prices = pl.DataFrame({"bid": bids, "ask": asks})
    texts: list[str | None] = prices.select(found.alias("condition"))["condition"].to_list()
    return texts


RULES: Final[dict[Data, Rules]] = {
    "trades": Rules(
        lambda venue: venue.parse,
        lambda venue: venue.parse_quotes,
        trades.BadTrade,
        "trade_id",
        {"price": _PRICE, "quantity": _QUANTITY},
        trades.check,
        trades.message_ids,
        lambda rows: {
            "side": pa.array([trade.side for trade in rows], pa.string()),
            "trade_conditions": pa.ListArray.from_arrays(
                pa.array(np.zeros(len(rows) + 1, np.int32)), pa.array([], pa.string())
            ),
        },
        lambda _: {},
    ),
    "quotes": Rules(
        lambda venue: venue.parse_quotes,
        lambda venue: venue.parse,
        quotes.BadQuote,
        "quote_id",
        {"bid_price": _PRICE, "bid_quantity": _QUANTITY, "ask_price": _PRICE, "ask_quantity": _QUANTITY},
        quotes.check,
        quotes.message_ids,
        lambda _: {},
        lambda numbers: {quotes.CONDITION: conditions(numbers["bid_price"], numbers["ask_price"])},
    ),
}
