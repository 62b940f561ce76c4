"""Candles against the venues' own: from CSV files in a folder, or from the venues' REST interfaces."""

import csv
import time
from collections.abc import Callable, Iterator
from datetime import date, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, Final

import polars as pl

from k2_assets.lake.row_filters import day_bounds_us
from k2_assets.orchestration.verdict import Verdict, counted
from k2_assets.reference.fetch_list import fetch
from k2_core import clock
from k2_core.errors import K2Error
from k2_core.settings import Settings
from k2_core.timeframes import MINUTE_US
from k2_core.venues import VENUES
from k2_core.venues.klines import MOST_MINUTES, Kline

PRICES: Final = ("open", "high", "low", "close")
VALUES: Final = (*PRICES, "volume")
_PAUSE_S: Final = 0.5  # between two requests: a venue answers so many of anybody
_SETTLES_US: Final = 2 * MINUTE_US
_NAMED: Final = 3
Key = tuple[str, str]
"""Exchange and symbol."""
Fetch = Callable[[str], bytes]


def same_as_venue(candles: pl.DataFrame, klines: dict[Key, list[Kline]], failed: list[str]) -> Verdict:
    """Compare the complete candles of which there are klines, value by value.

    Args:
        candles: of one minute.
        klines: by exchange and symbol; of other minutes too.
        failed: what could not be asked for, and why.
    """
    rows = [(*key, clock.from_us(each.start_us), *each[1:]) for key, found in klines.items() for each in found]
    number = pl.Decimal(38, 12)
    schema: dict[str, Any] = {"exchange": pl.String, "symbol": pl.String, "window_start": pl.Datetime("us", "UTC")}
    theirs = pl.DataFrame(rows, schema={**schema, **dict.fromkeys(VALUES, number)}, orient="row")
    ours = candles.filter("is_complete").select(
        *schema, *(pl.col(f"{name}_price").alias(name) for name in PRICES), "volume"
    )
    both = ours.with_columns(pl.col(VALUES).cast(number)).join(theirs, on=list(schema), suffix="_venue")
    cases = pl.concat(
        [
            both.filter(pl.col(name) != pl.col(f"{name}_venue")).select(
                *schema,
                pl.lit(name).alias("value"),
                pl.col(name).alias("ours"),
                pl.col(f"{name}_venue").alias("venue's"),
            )
            for name in VALUES
        ]
    ).sort(*schema, "value")
    differ = cases.select(*schema).n_unique()
    said = f"{differ:,} of {counted(both.height, 'complete candle')} that venues have as well "
    said += f"{'differs' if differ == 1 else 'differ'} from theirs"
    if failed:
        more = f" and {len(failed) - _NAMED} more" if len(failed) > _NAMED else ""
        said += f"; not compared: {'; '.join(failed[:_NAMED])}{more}"
    return Verdict(
        passed=differ == 0,
        sentence=f"{said.removesuffix('.')}.",
        counts={"candles compared": both.height, "candles that differ": differ, "not asked for": len(failed)},
        samples=cases,
    )


def klines_of_day(
    settings: Settings,
    candles: pl.DataFrame,
    day: date,
    ask: Fetch | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[dict[Key, list[Kline]], list[str]]:
    """Return the venues' klines of a day's instruments, and what could not be had.

    Args:
        settings: name the folder of CSV files, or the venues and symbols to ask for.
        candles: of the day, with ``exchange``, ``symbol`` and ``window_end``.
        day: UTC.
        ask: returns the body of a URL.
        sleep: waits for some seconds.
    """
    found: dict[Key, list[Kline]] = {}
    failed: list[str] = []
    folder = settings.reference.klines
    if folder is not None:
        for exchange, symbol in candles.select("exchange", "symbol").unique().sort("exchange", "symbol").iter_rows():
            path = folder / f"{exchange}_{symbol}_1m.csv"
            if path.exists():
                found[exchange, symbol] = list(_read(path))
        return found, [] if found else [f"{folder} has no file of an instrument of the day"]
    ask = ask or partial(fetch, ca_file=settings.feeds.ca_file)
    for exchange, symbol, venue_symbol, end in _fed(settings, candles):
        venue, rest = VENUES[exchange], settings.feeds.of(exchange).rest_url
        end_us = min(clock.to_us(end), clock.now_us() - _SETTLES_US) // MINUTE_US * MINUTE_US
        first_us = max(end_us - MOST_MINUTES * MINUTE_US, day_bounds_us(day)[0])
        try:
            found[exchange, symbol] = venue.parse_klines(ask(venue.klines_url(rest, venue_symbol, first_us, end_us)))
        except K2Error as error:
            failed.append(f"{exchange} {symbol} ({str(error).removesuffix('.')})")
        sleep(_PAUSE_S)
    return found, failed


def _fed(settings: Settings, candles: pl.DataFrame) -> Iterator[tuple[str, str, str, datetime]]:
    """Yield exchange, symbol, the venue's spelling and the last candle's end of the fed symbols that have candles."""
    ends = candles.group_by("exchange", "symbol").agg(pl.max("window_end"))
    last = {(exchange, symbol): end for exchange, symbol, end in ends.iter_rows()}
    for exchange in settings.feeds.venues:
        for venue_symbol in settings.feeds.of(exchange).symbols:
            known = VENUES[exchange].instrument_of(venue_symbol)
            if known is not None and (exchange, known.symbol) in last:
                yield exchange, known.symbol, venue_symbol, last[exchange, known.symbol]


def _read(path: Path) -> Iterator[Kline]:
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            yield Kline(clock.to_us(datetime.fromisoformat(row["open_time"])), *(Decimal(row[name]) for name in VALUES))
