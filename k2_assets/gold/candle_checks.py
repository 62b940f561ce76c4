"""What must hold of candles as a whole: how many are complete, and that they equal what their trades give. Pure."""

import hashlib
from datetime import datetime
from typing import Final

import polars as pl

from k2_assets.gold.candle_rows import PROOF, SHAPE
from k2_assets.gold.instrument_rows import KEY
from k2_assets.gold.restatements import SETTLES, WINDOW
from k2_assets.orchestration.verdict import Verdict, are, counted, percent
from k2_core.timeframes import ONE_MINUTE, Timeframe

COMPLETENESS: Final = (*KEY, "window_start", "window_end", "is_complete", "missing_trades")
REBUILT: Final = (*SHAPE, *PROOF)
INCOMPLETE_WARNING: Final = 0.01
INCOMPLETE_ERROR: Final = 0.10


def complete_candles(candles: pl.DataFrame, timeframe: Timeframe, now: datetime) -> Verdict:
    """Judge the share of incomplete candles: above 1 % is a warning; of minutes, above 10 % is an error.

    An instrument's first and last candle, of which nothing is known to be missing, are not judged: the trade before the
    first one of all is never known, and the one after the newest is not yet there.

    Args:
        candles: of a day, with :data:`COMPLETENESS`.
        timeframe: of the candles. One missing trade makes a wide window incomplete, so that is no error.
        now: a window is over two minutes after its end.
    """
    start = pl.col("window_start")
    at_an_end = (start == start.min().over(KEY)) | (start == start.max().over(KEY))
    over = candles.filter(
        pl.col("window_end") <= now - SETTLES,
        pl.col("is_complete") | ~at_an_end | (pl.col("missing_trades") > 0),
    )
    incomplete = over.filter(~pl.col("is_complete")).sort("missing_trades", *WINDOW, descending=[True, *[False] * 3])
    share = incomplete.height / over.height if over.height else 0.0
    missing = int(incomplete["missing_trades"].sum())
    said = (
        f"{counted(incomplete.height, 'candle')} of {over.height:,} that are over {are(incomplete.height)} incomplete"
    )
    if incomplete.height:
        said += f" ({percent(share, 1)}); {counted(missing, 'trade')} {are(missing)} known to be missing"
    return Verdict(
        passed=share <= INCOMPLETE_WARNING,
        sentence=f"{said}.",
        counts={"candles that are over": over.height, "incomplete": incomplete.height, "missing trades": missing},
        samples=incomplete.select(*WINDOW, "missing_trades"),
        severity="error" if share > INCOMPLETE_ERROR and timeframe == ONE_MINUTE else "warning",
    )


def sampled_windows(starts: list[datetime], seed: str, number: int) -> list[datetime]:
    """Return some of the windows, chosen by a hash of ``seed``: the same each time, and of all parts of a day."""
    rising = sorted(starts)
    chosen = {
        rising[int.from_bytes(hashlib.sha256(f"{seed} {place}".encode()).digest()[:8]) % len(rising)]
        for place in range(number if rising else 0)
    }
    return sorted(chosen)


def equal_to_rebuilt(stored: pl.DataFrame, rebuilt: pl.DataFrame, windows: int) -> Verdict:
    """Compare candles with those that their trades give, value by value.

    Args:
        stored: candles with :data:`REBUILT`.
        rebuilt: those of the same windows, from gold's trades.
        windows: that were sampled.
    """
    values = [name for name in REBUILT if name not in WINDOW]
    both = stored.select(*WINDOW, *values).join(
        rebuilt.select(*WINDOW, *values), on=WINDOW, how="full", suffix="_now", coalesce=True
    )
    differ = {name: both.filter(~pl.col(name).eq_missing(pl.col(f"{name}_now"))) for name in values}
    # Candles that an earlier K2 has written do not know their ids.
    for name in ("lowest_sequence", "highest_sequence"):
        differ[name] = differ[name].filter(pl.col(name).is_not_null())
    cases = pl.concat(
        [
            rows.select(
                *WINDOW,
                pl.lit(name).alias("column"),
                pl.col(name).cast(pl.String).alias("stored"),
                pl.col(f"{name}_now").cast(pl.String).alias("from trades"),
            )
            for name, rows in differ.items()
        ]
    )
    if both.is_empty():
        return Verdict(passed=True, sentence="No candle is old enough to be compared.")
    wrong = cases.select(WINDOW).n_unique()
    return Verdict(
        passed=cases.is_empty(),
        sentence=f"{counted(both.height, 'candle')} of {counted(windows, 'sampled window')}: "
        + (f"{wrong:,} differ from what their trades give." if wrong else "each equals what its trades give."),
        counts={"candles compared": both.height, "candles that differ": wrong, "values that differ": cases.height},
        samples=cases.sort(*WINDOW),
        severity="error",
    )
