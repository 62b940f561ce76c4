"""What must hold of gold's rows: no message id twice, and the invariants of candles. Pure."""

from typing import Final

import polars as pl

INVARIANTS: Final = {
    "low ≤ open ≤ high": pl.col("open_price").is_between(pl.col("low_price"), pl.col("high_price")),
    "low ≤ close ≤ high": pl.col("close_price").is_between(pl.col("low_price"), pl.col("high_price")),
    "low ≤ vwap ≤ high": pl.col("vwap").is_between(pl.col("low_price"), pl.col("high_price")),
    "volume > 0": pl.col("volume") > 0,
    "trade_count > 0": pl.col("trade_count") > 0,
    "missing_trades ≥ 0": pl.col("missing_trades") >= 0,
    "complete means none missing": ~pl.col("is_complete") | (pl.col("missing_trades") == 0),
    "window_end follows window_start": pl.col("window_end") > pl.col("window_start"),
}
CANDLE_COLUMNS: Final = (
    *("symbol", "exchange", "window_start", "window_end", "open_price", "high_price", "low_price", "close_price"),
    *("volume", "trade_count", "vwap", "is_complete", "missing_trades"),
)


def broken_invariants(candles: pl.DataFrame) -> dict[str, int]:
    """Return how many candles break each invariant that any of them breaks."""
    if candles.is_empty():
        return {}
    counts = candles.select((~holds).fill_null(value=True).sum().alias(name) for name, holds in INVARIANTS.items())
    broken = {name: int(count) for name, count in counts.row(0, named=True).items() if count}
    if twice := candles.height - candles.select("symbol", "exchange", "window_start").n_unique():
        broken["one candle a window"] = twice
    return broken


def that_break(candles: pl.DataFrame) -> pl.DataFrame:
    """Return the candles that break an invariant, those of a window that has several included."""
    holds = pl.all_horizontal(*(each.fill_null(value=False) for each in INVARIANTS.values()))
    return candles.filter(~holds | pl.struct("symbol", "exchange", "window_start").is_duplicated())
