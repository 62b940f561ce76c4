"""Whether candles can be made of a day's trades: the check of trades and each refresh of candles ask it."""

from dataclasses import dataclass
from datetime import date
from typing import Final

import polars as pl

from k2_assets.lake.lake_resource import Lake
from k2_assets.lake.rebuilt_days import Taken
from k2_assets.lake.source_files import Seen, live_files, newest_and_beside, read_files
from k2_core.errors import UnfitTrades
from k2_core.lake.tables import CANDLES, GOLD_TRADES

FIT: Final = "fit_for_candles"
_COLUMNS: Final = ("timestamp", "price", "quantity")
_WANTED: Final = {"price > 0": pl.col("price") > 0, "quantity > 0": pl.col("quantity") > 0}
IS_FIT: Final = pl.all_horizontal(_WANTED.values()).fill_null(value=False)
"""Whether a candle can be made of a trade."""


@dataclass(frozen=True)
class Fitness:
    """How many trades of a day were judged, and how many break each condition of candles. Its text ends a sentence."""

    trades: int
    unfit: dict[str, int]

    def __str__(self) -> str:
        return "; ".join(f"{name}: {count:,} not" for name, count in self.unfit.items()) or "candles can be made of all"


def fitness(lake: Lake, day: date, *, whole: bool) -> Fitness:
    """Judge the trades of a day: all, or those that candles have not taken in and those near the newest."""
    table, candles = (
        lake.table(GOLD_TRADES.name),
        [lake.table(spec.name) for spec in CANDLES if GOLD_TRADES.name in spec.made_from],
    )
    files = live_files(table, GOLD_TRADES.partition_by, day=day)
    # An unfit trade blocks candles for as long as they have not taken it in, however old its file is.
    if not whole and all(day not in Taken.of(each).behind(table) for each in candles):
        news = [file for each in candles for file in Seen.of(each).newer(table, files)]
        judged = {each.path for each in (*newest_and_beside(files), *news)}
        files = [each for each in files if each.path in judged]
    trades = read_files(table, files, _COLUMNS)
    return Fitness(trades.height, unfit_for_candles(trades, day))


def require_fit(trades: pl.DataFrame, day: date) -> None:
    """Refuse trades of a day of which candles cannot be made: the candles stay as they are until gold is mended.

    Raises:
        UnfitTrades: naming the conditions.
    """
    if unfit := unfit_for_candles(trades, day):
        found = Fitness(trades.height, unfit)
        msg = f"the check {FIT} of {GOLD_TRADES.name} fails ({found}): rebuild {GOLD_TRADES.name} of {day}"
        raise UnfitTrades(msg)


def unfit_for_candles(trades: pl.DataFrame, day: date) -> dict[str, int]:
    """Return how many trades of a day break each condition; only those that are broken."""
    wanted = {**_WANTED, "a time of the day": pl.col("timestamp").dt.date() == day}
    counts = trades.select((~holds).fill_null(value=True).sum().alias(name) for name, holds in wanted.items())
    return {name: int(count) for name, count in counts.row(0, named=True).items() if count}
