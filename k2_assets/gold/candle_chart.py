"""A picture of a table of candles: close prices of its most traded instruments, as an SVG that Dagster's pages show.

These show pictures by address only. Their webserver serves what lies among the output of runs, in ``storage``.
"""

from typing import Final
from xml.sax.saxutils import escape

import dagster as dg
import polars as pl

from k2_assets.lake.lake_resource import Lake
from k2_assets.lake.source_files import live_files, read_files
from k2_core import clock, whole_file
from k2_core.lake.table_spec import TableSpec
from k2_core.logs import logger

log = logger(__name__)

_EVERY_S: Final = 3600.0
_INSTRUMENTS: Final = 3
_POINTS: Final = 400  # of a line: nobody sees more
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 760, 150, 100, 20, 30, 24
_COLUMNS: Final = ("symbol", "exchange", "window_start", "close_price", "trade_count")


def charted(lake: Lake, spec: TableSpec) -> dg.MarkdownMetadataValue | None:
    """Return the picture of a table's newest partition, drawn again when it is an hour old; None without one."""
    path = lake.settings.home / "dagster" / "storage" / "charts" / f"{spec.name}.svg"
    try:
        if not path.exists() or clock.now_s() - path.stat().st_mtime >= _EVERY_S:
            table = lake.table(spec.name)
            files = live_files(table, spec.partition_by)
            newest = max((each.day for each in files), default=None)
            if newest is None:
                return None
            rows = read_files(table, [each for each in files if each.day == newest], _COLUMNS)
            whole_file.replace(path, draw(rows).encode())
        drawn_s = int(path.stat().st_mtime)
    except OSError:  # a report is worth more than its picture
        log.exception("no picture", table=spec.name)
        return None
    return dg.MetadataValue.md(
        f"![close prices of the newest {spec.partition_unit}](/logs/charts/{path.stem}/svg?{drawn_s})"
    )


def draw(candles: pl.DataFrame) -> str:
    """Return an SVG with a line for each of the most traded instruments, one below the other, over the time (UTC)."""
    of_instrument = candles.group_by("symbol", "exchange").agg(pl.col("trade_count").sum().alias("trades"))
    chosen = of_instrument.sort("trades", "symbol", "exchange", descending=[True, False, False]).head(_INSTRUMENTS)
    height = _HEIGHT * chosen.height
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" '
        f'font-size="12"><rect width="{_WIDTH}" height="{height}" fill="white"/>'
    ]
    for number, (symbol, exchange, _) in enumerate(chosen.iter_rows()):
        line = candles.filter(pl.col("symbol") == symbol, pl.col("exchange") == exchange).sort("window_start")
        parts.append(f'<g transform="translate(0,{number * _HEIGHT})">{_panel(f"{symbol} at {exchange}", line)}</g>')
    return "".join([*parts, "</svg>"])


def _panel(title: str, line: pl.DataFrame) -> str:
    times, exact = line["window_start"].to_list(), line["close_price"].to_list()
    prices = [float(price) for price in exact]
    least, most = min(prices), max(prices)
    seconds = [(moment - times[0]).total_seconds() for moment in times]
    wide, high = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    bottom, every = _TOP + high, -(-len(prices) // _POINTS)
    points = [
        f"{_LEFT + wide * at / (seconds[-1] or 1):.1f},{bottom - high * (price - least) / ((most - least) or 1):.1f}"
        for at, price in zip(seconds, prices, strict=True)
    ]
    shown = " ".join(dict.fromkeys([*points[::every], points[-1]]))
    parts = [f'<text x="{_LEFT}" y="{_TOP - 12}" font-weight="bold">{escape(title)}: {exact[-1].normalize():f}</text>']
    for y, price in ((bottom, min(exact)), (_TOP, max(exact))):
        parts.append(f'<path d="M{_LEFT} {y}h{wide}" stroke="#d0d7de"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4}" text-anchor="end">{price.normalize():f}</text>')
    for x, anchor, moment in ((_LEFT, "start", times[0]), (_WIDTH - _RIGHT, "end", times[-1])):
        parts.append(f'<text x="{x}" y="{bottom + 16}" text-anchor="{anchor}">{moment:%Y-%m-%d %H:%M}</text>')
    parts.append(f'<polyline points="{shown}" fill="none" stroke="#1f6feb" stroke-width="1.5"/>')
    return "".join(parts)
