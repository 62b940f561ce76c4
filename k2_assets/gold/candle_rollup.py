"""One-minute candles to candles of wider windows, equal to what their trades give. Pure: Polars frames in and out."""

from typing import Final

import polars as pl

from k2_assets.gold.candle_rows import PROOF, SHAPE, Span, exact_sums, span_frame, sum_columns, window_times
from k2_assets.gold.instrument_rows import KEY
from k2_core.epochs import Epochs
from k2_core.timeframes import MINUTE_US

MINUTE_COLUMNS: Final = (
    *("exchange", "symbol", "window_start", "open_price", "high_price", "low_price", "close_price", "volume"),
    *("quote_volume", "trade_count", "first_trade_id", "last_trade_id", "lowest_sequence", "highest_sequence"),
)
_WINDOW: Final = (*KEY, "start_us")


def rolled_up(
    minutes: pl.DataFrame, spans: list[Span], width_us: int, epochs: Epochs
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Build the candles of ``spans`` from one-minute candles.

    Args:
        minutes: :data:`MINUTE_COLUMNS`; at least those of the spans, and of each instrument the last one before and the
            first one after its span where there are such.
        spans: at most one of each instrument.
        width_us: of a window, whole minutes.
        epochs: of the instruments whose ids began again.

    Returns:
        The candles without ``created_at`` and ``updated_at``, and the windows (exchange, symbol, window_start) that
        have to be built from their trades.
    """
    rows = _with_neighbours(minutes, width_us)
    windows = _windows(rows.join(span_frame(spans), on=KEY), epochs)
    # Ids are counted, not looked at: where those of each minute lie above those of the minute before, what the window's
    # trades leave of the ids between its bounding trades is missing, unless another window has it. Elsewhere only the
    # trades can tell.
    before = pl.coalesce("before", pl.col("lowest_sequence") - 1)
    after = pl.coalesce("after", pl.col("highest_sequence") + 1)
    windows = windows.with_columns((after - before - 1 - pl.col("trade_count")).alias("missing_trades"))
    lacking = windows.filter("sure", pl.col("missing_trades") > 0).select(
        *_WINDOW, before.alias("above"), after.alias("below")
    )
    # Only a minute whose ids do not all lie between those of the minutes before and after it can have such an id: few
    # are left, where all minutes of a day for each of its windows would be gigabytes.
    largest_before = pl.col("highest_sequence").cum_max().shift(1).over(KEY)
    smallest_after = pl.col("lowest_sequence").cum_min(reverse=True).shift(-1).over(KEY)
    out_of_order = (pl.col("lowest_sequence") < largest_before) | (pl.col("highest_sequence") > smallest_after)
    others = rows.filter(out_of_order.fill_null(value=False)).select(
        *KEY, pl.col("start_us").alias("other_us"), "lowest_sequence", "highest_sequence"
    )
    has_some = (pl.col("lowest_sequence") < pl.col("below")) & (pl.col("highest_sequence") > pl.col("above"))
    elsewhere = lacking.join(others, on=KEY).filter(has_some, pl.col("start_us") != pl.col("other_us"))
    sure = windows.filter("sure").join(elsewhere, on=_WINDOW, how="anti")
    unsure = windows.join(sure, on=_WINDOW, how="anti").select(*KEY, window_times(width_us)[0])
    bounded = pl.col("before").is_not_null() & pl.col("after").is_not_null()
    minutes = sure.select(*_WINDOW, "minutes").explode("minutes").unnest("minutes")
    group = pl.struct(*_WINDOW).rle_id()
    sums = exact_sums(minutes, group, pl.col("volume"), (pl.col("quote_volume"), pl.lit(1)))
    candles = sure.with_columns(
        *window_times(width_us),
        *sum_columns(sums, sure),
        (bounded & (pl.col("missing_trades") == 0)).alias("is_complete"),
    )
    return candles.select(*SHAPE, *PROOF), unsure


def _with_neighbours(minutes: pl.DataFrame, width_us: int) -> pl.DataFrame:
    """Add what the minutes before and after each one say about the ids between them."""
    start_us = pl.col("window_start").to_physical()
    first, last = (pl.col(name).cast(pl.Int64, strict=False) for name in ("first_trade_id", "last_trade_id"))
    rows = minutes.sort(*KEY, "window_start").with_columns(
        (start_us // width_us * width_us).alias("start_us"),
        (first == pl.col("lowest_sequence")).fill_null(value=False).alias("begins_lowest"),
        (last == pl.col("highest_sequence")).fill_null(value=False).alias("ends_highest"),
    )
    is_first, is_last = pl.col("symbol").shift(1).over(KEY).is_null(), pl.col("symbol").shift(-1).over(KEY).is_null()
    before, after = pl.col("highest_sequence").shift(1).over(KEY), pl.col("lowest_sequence").shift(-1).over(KEY)
    return rows.with_columns(
        before.alias("before"),
        after.alias("after"),
        # The trades that bound a window are the last one of the minute before and the first one of the minute after:
        # their ids are the largest and the smallest of these minutes, or the order is another.
        pl.when(is_first).then(True).otherwise(pl.col("ends_highest").shift(1).over(KEY)).alias("known_before"),
        pl.when(is_last).then(True).otherwise(pl.col("begins_lowest").shift(-1).over(KEY)).alias("known_after"),
        pl.coalesce(start_us.shift(1).over(KEY), start_us).alias("begin_us"),
        (pl.coalesce(start_us.shift(-1).over(KEY), start_us) + MINUTE_US).alias("until_us"),
        (
            (is_first | (pl.col("lowest_sequence") > before))
            & (is_last | (pl.col("highest_sequence") < after))
            & (pl.col("lowest_sequence") <= pl.col("highest_sequence"))
            & pl.col("quote_volume").is_not_null()
        )
        .fill_null(value=False)
        .alias("rises"),
    )


def _windows(rows: pl.DataFrame, epochs: Epochs) -> pl.DataFrame:
    """Return the windows of the spans with their minutes, and whether the minutes tell all of each one."""
    inside = rows.filter(pl.col("start_us") >= pl.col("first_us"), pl.col("start_us") < pl.col("end_us"))
    windows = inside.group_by(_WINDOW, maintain_order=True).agg(
        pl.col("open_price").first(),
        pl.col("high_price").max(),
        pl.col("low_price").min(),
        pl.col("close_price").last(),
        pl.col("trade_count").sum(),
        pl.col("first_trade_id").first(),
        pl.col("last_trade_id").last(),
        pl.col("lowest_sequence").min(),
        pl.col("highest_sequence").max(),
        pl.col("before").first(),
        pl.col("after").last(),
        pl.struct("volume", "quote_volume").alias("minutes"),
        pl.col("begin_us").first(),
        pl.col("until_us").last(),
        (pl.col("rises").all() & pl.col("known_before").first() & pl.col("known_after").last()).alias("sure"),
    )
    # Ids of two epochs are not compared.
    for exchange, symbol in epochs:
        for start in epochs.starts(exchange, symbol):
            over = (pl.col("begin_us") < start) & (pl.col("until_us") > start)
            here = (pl.col("exchange") == exchange) & (pl.col("symbol") == symbol) & over
            windows = windows.with_columns((pl.col("sure") & ~here).alias("sure"))
    return windows
