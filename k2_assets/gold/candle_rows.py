"""Gold trades to candles, exact and with proof of completeness. Pure: Polars frames in and out.

Prices and quantities are worked with as scaled integers: Polars' own product of decimals truncates.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from k2_assets.gold.instrument_rows import KEY, by_instrument, in_order
from k2_core.epochs import BREAK_US, NO_EPOCHS, Epochs
from k2_core.trades import PRICE_PRECISION, PRICE_SCALE, QUANTITY_SCALE

TRADE_COLUMNS: Final = ("exchange", "symbol", "timestamp", "source_sequence", "trade_id", "price", "quantity")
ORDER: Final = ("timestamp", "source_sequence", "trade_id")
SHAPE: Final = (
    "symbol",
    "exchange",
    "window_start",
    "window_end",
    "window_date",
    "open_price",
    "high_price",
    "low_price",
    "close_price",
    "volume",
    "quote_volume",
    "trade_count",
    "vwap",
    "first_trade_id",
    "last_trade_id",
)
PROOF: Final = ("is_complete", "missing_trades", "lowest_sequence", "highest_sequence")
_Ints = npt.NDArray[np.int64]
_PRODUCT_SCALE: Final = PRICE_SCALE + QUANTITY_SCALE
_INT128_SAFE: Final = 8.0e37  # a sum beyond is done in Python's integers: Polars wraps silently at 1.7e38
_QUOTE_VOLUME_BELOW: Final = 10**38


@dataclass(frozen=True)
class Span:
    """Windows of one instrument to compute: [first_us, end_us), both on the boundary of a window.

    It is followed when the source has a row at or after its end.
    """

    exchange: str
    symbol: str
    first_us: int
    end_us: int
    is_followed: bool = False


def span_frame(spans: list[Span]) -> pl.DataFrame:
    """Return spans as rows."""
    schema = {"exchange": pl.String, "symbol": pl.String, "first_us": pl.Int64, "end_us": pl.Int64}
    rows = [(span.exchange, span.symbol, span.first_us, span.end_us) for span in spans]
    return pl.DataFrame(rows, schema=schema, orient="row")


def candles(trades: pl.DataFrame, spans: list[Span], width_us: int, epochs: Epochs = NO_EPOCHS) -> pl.DataFrame:
    """Build the candles of ``spans``.

    Args:
        trades: :data:`TRADE_COLUMNS` of gold, each trade once; at least every trade of the spans, and of each
            instrument the last one before and the first one after its span where there are such.
        spans: at most one of each instrument.
        width_us: of a window.
        epochs: of the instruments whose ids began again.

    Returns:
        The candles without ``created_at`` and ``updated_at``, a row for each window that has a trade.
    """
    parts = by_instrument(trades)
    none = _Windows.of(trades.clear(), Span("", "", 0, 0), width_us, ())
    found = [
        _Windows.of(in_order(parts[key], ORDER), span, width_us, epochs.starts(*key))
        for span in spans
        if (key := (span.exchange, span.symbol)) in parts
    ] or [none]
    # The windows of all instruments are numbered, so that the rows are grouped by a number that rises.
    counts = np.concatenate([each.counts for each in found])
    number = pl.Series("number", np.repeat(np.arange(len(counts)), counts)).set_sorted()
    inside = pl.concat([each.rows for each in found]).with_columns(number)
    price, sequence = pl.col("price"), pl.col("source_sequence")
    windows = inside.group_by("number", maintain_order=True).agg(
        pl.col(KEY).first(),
        price.first().alias("open_price"),
        price.max().alias("high_price"),
        price.min().alias("low_price"),
        price.last().alias("close_price"),
        pl.len().cast(pl.Int64).alias("trade_count"),
        pl.col("trade_id").first().alias("first_trade_id"),
        pl.col("trade_id").last().alias("last_trade_id"),
        sequence.min().alias("lowest_sequence"),
        sequence.max().alias("highest_sequence"),
    )
    sums = exact_sums(inside, pl.col("number"), pl.col("quantity"), (price, pl.col("quantity")))
    return (
        windows.with_columns(
            pl.Series("start_us", np.concatenate([each.starts_us for each in found])),
            pl.Series("is_complete", np.concatenate([each.is_complete for each in found])),
            pl.Series("missing_trades", np.concatenate([each.missing for each in found])),
        )
        .with_columns(*window_times(width_us), *sum_columns(sums, windows))
        .select(*SHAPE, *PROOF)
    )


@dataclass(frozen=True)
class _Windows:
    """The windows of one instrument that have a trade: their trades, and how many each of them has."""

    rows: pl.DataFrame
    counts: _Ints
    starts_us: _Ints
    is_complete: npt.NDArray[np.bool_]
    missing: _Ints

    @classmethod
    def of(cls, trades: pl.DataFrame, span: Span, width_us: int, epochs_us: tuple[int, ...]) -> "_Windows":
        # The span's trades alone make the windows; all trades, those around the span too, prove that none is missing.
        times, ids = trades["timestamp"].to_physical().to_numpy(), trades["source_sequence"].to_numpy()
        first, end = np.searchsorted(times, [span.first_us, span.end_us]).tolist()
        starts = times[first:end] // width_us * width_us
        begins = np.flatnonzero(np.diff(starts, prepend=starts[:1] - 1))
        edges = first + np.append(begins, end - first)
        proved, missing = _proof(times, ids, _Edges(starts[begins], width_us, edges[:-1], edges[1:]), epochs_us)
        return cls(trades.slice(first, end - first), np.diff(edges), starts[begins], proved, missing)


def window_times(width_us: int) -> list[pl.Expr]:
    """Return window_start, window_end and window_date of windows that have ``start_us``."""
    start = pl.col("start_us").cast(pl.Datetime("us", "UTC"))
    return [
        start.alias("window_start"),
        (pl.col("start_us") + width_us).cast(pl.Datetime("us", "UTC")).alias("window_end"),
        start.dt.date().alias("window_date"),
    ]


Sums = tuple[list[int], list[int]]
"""Of each group of rows, in the order in which they first appear: Σ quantity, and Σ price × quantity."""


def exact_sums(rows: pl.DataFrame, group: pl.Expr, quantity: pl.Expr, factors: tuple[pl.Expr, pl.Expr]) -> Sums:
    """Sum up decimals of each group exactly, as integers.

    Args:
        rows: any number.
        group: tells the groups apart.
        quantity: to sum up.
        factors: the product of the two is summed up.
    """
    one, other = (each.to_physical() for each in factors)
    rough = rows.select((one.cast(pl.Float64) * other.cast(pl.Float64)).sum()).item()
    volume, product = quantity.to_physical().cast(pl.Int128), one.cast(pl.Int128) * other.cast(pl.Int128)
    if rough <= _INT128_SAFE:
        by_group = rows.group_by(group.alias("group"), maintain_order=True)
        sums = by_group.agg(volume.sum().alias("volume"), product.sum().alias("product"))
        return sums["volume"].to_list(), sums["product"].to_list()
    volumes: dict[object, int] = {}
    products: dict[object, int] = {}
    scaled = rows.select(group.alias("group"), volume.alias("volume"), one.alias("one"), other.alias("other"))
    for key, amount, factor, second in scaled.iter_rows():
        volumes[key] = volumes.get(key, 0) + amount
        products[key] = products.get(key, 0) + factor * second
    return list(volumes.values()), list(products.values())


def sum_columns(sums: Sums, windows: pl.DataFrame) -> list[pl.Series]:
    """Return volume, quote_volume and vwap of windows that have their prices: integers of 8 and of 20 decimals."""
    volumes, products = sums
    lows, highs = (windows[name].to_physical().to_list() for name in ("low_price", "high_price"))
    vwaps = []
    for product, volume, low, high in zip(products, volumes, lows, highs, strict=True):
        # The vwap is rounded once, half to even. It may then lie outside the prices by one unit, and is put back.
        quotient, rest = divmod(product, volume)
        rounded = quotient + (2 * rest > volume or (2 * rest == volume and quotient % 2 == 1))
        vwaps.append(min(max(rounded, low), high))
    fitting = [product if product < _QUOTE_VOLUME_BELOW else None for product in products]
    return [
        _decimals("volume", volumes, 38, QUANTITY_SCALE),
        _decimals("quote_volume", fitting, 38, _PRODUCT_SCALE),
        _decimals("vwap", vwaps, PRICE_PRECISION, PRICE_SCALE),
    ]


def _decimals(name: str, scaled: Sequence[int | None], precision: int, scale: int) -> pl.Series:
    values = [None if number is None else Decimal(f"{number}e-{scale}") for number in scaled]
    return pl.Series(name, values, dtype=pl.Decimal(precision, scale))


class _Edges(NamedTuple):
    """Windows of one instrument, side by side: when each starts, how wide all are, its trades from first to end."""

    starts_us: _Ints
    width_us: int
    first: _Ints
    end: _Ints


def _proof(
    times: _Ints, ids: _Ints, windows: _Edges, epochs_us: tuple[int, ...]
) -> tuple[npt.NDArray[np.bool_], _Ints]:
    """Return is_complete and missing_trades of the windows of one instrument."""
    # Each epoch is judged alone, as if it were all that there is. Nothing is proved over a break: nobody knows with
    # which id the old sequence ended and the new one began. A window that lies in two epochs is complete only if it is
    # complete in both, and the ids missing on both sides are added up.
    edges = [0, *np.searchsorted(times, np.array(epochs_us, dtype=np.int64), "left").tolist(), len(times)]
    complete, missing = np.ones(len(windows.first), dtype=bool), np.zeros(len(windows.first), dtype=np.int64)
    for begin, end in pairwise(edges):
        first, last = (each.clip(begin, end) - begin for each in (windows.first, windows.end))
        inside = first < last
        if inside.any():
            of_epoch = _Edges(windows.starts_us[inside], windows.width_us, first[inside], last[inside])
            proved, lacking = _proof_of_epoch(times[begin:end], ids[begin:end], of_epoch)
            complete[inside] &= proved
            missing[inside] += lacking
    return complete, missing


def _proof_of_epoch(times: _Ints, ids: _Ints, windows: _Edges) -> tuple[npt.NDArray[np.bool_], _Ints]:
    """Return the same of windows that hold trades of one epoch, at least one each."""
    first, end = windows.first, windows.end
    within = ids[first[0] : end[-1]]
    lowest, highest = (each.reduceat(within, first - first[0]) for each in (np.minimum, np.maximum))
    # The bounding trades of a window are the last one before it and the first one at or after its end, by ORDER.
    # Where one does not exist, nothing is proved, and the ids are counted from the window's own lowest or highest.
    previous, following = np.maximum(first - 1, 0), np.minimum(end, len(ids) - 1)
    before = np.where(first > 0, ids[previous], lowest - 1)
    after = np.where(end < len(ids), ids[following], highest + 1)
    # Ids rise by one, so every id between the two must be in gold: where they rise from the one to the other, the
    # window's own trades are all that there are.
    missing = np.maximum(after - before - 1, 0) - (end - first)
    falls = np.append(0, np.cumsum(np.diff(ids) <= 0))
    doubtful = (falls[previous] < falls[following]) | (missing > 0)
    if falls[-1] and doubtful.any():  # another window may have them
        known = np.sort(ids)  # and once each: np.unique hashes them, which takes thirty times as long
        known = known[np.diff(known, prepend=known[:1] - 1) != 0]
        between = np.searchsorted(known, after, "left") - np.searchsorted(known, before, "right")
        missing[doubtful] = (np.maximum(after - before - 1, 0) - np.maximum(between, 0))[doubtful]
    # Where the second has the lower id over a minute later, as in a single odd frame, it does not follow the first.
    bounded = (first > 0) & (end < len(ids))
    follows = (after > before) | (times[following] <= times[previous] + BREAK_US)
    return bounded & follows & (missing == 0), missing
