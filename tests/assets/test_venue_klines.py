"""Candles against the venues' own klines: a recording's against a CSV file, and what venues' REST interfaces answer."""

import gzip
import json
import shutil
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from k2_assets.gold.candle_rows import Span, candles
from k2_assets.gold.checks import SAME_AS_VENUE
from k2_assets.gold.judged_day import JudgedDay
from k2_assets.gold.venue_klines import klines_of_day, same_as_venue
from k2_assets.lake.lake_resource import Lake
from k2_assets.lake.source_files import as_frame
from k2_core import clock
from k2_core.errors import DownloadError, MalformedFrame
from k2_core.lake.tables import GOLD_OHLCV_1M, GOLD_TRADES
from k2_core.settings import Reference, Settings
from k2_core.timeframes import MINUTE_US
from k2_core.venues import VENUES
from k2_core.venues.klines import Kline
from tests.assets.lakes import DAY, NOON, SILVER, SmallLake, a_trade, to_arrow, trades_of

RECORDING, KLINES = "binance_spot_btcusdt_2024-08-08_2355.jsonl.gz", "binance_spot_btcusdt_klines_1m.csv"
REPLIES = {
    "binance": b'[[1723204800000,"100.5","102.00","99","101","60.25",1723204859999,"6000",60,"1","1","0"]]',
    "kraken": b'{"error":[],"result":{"XXBTZUSD":[[1723204800,"100.5","102.00","99","101","100","60.25",60]],'
    b'"last":1723204740}}',
    "coinbase": b"[[1723204800,99,102.00,100.5,101,60.25]]",
}
URLS = {
    ("binance", "BTCUSDT"): "https://rest/api/v3/klines?symbol=BTCUSDT&interval=1m&startTime=1723204800000"
    "&endTime=1723204919999&limit=240",
    ("kraken", "BTC/USD"): "https://rest/0/public/OHLC?pair=XBTUSD&interval=1&since=1723204740",
    ("coinbase", "BTC-USD"): "https://rest/products/BTC-USD/candles?granularity=60&start=1723204800&end=1723204860",
}


@pytest.mark.parametrize("venue", VENUES)
def test_a_venues_reply_is_read_exactly_and_another_one_is_refused(venue: str) -> None:
    [found] = VENUES[venue].parse_klines(REPLIES[venue])
    values = (Decimal(text) for text in ("100.5", "102.00", "99", "101", "60.25"))
    assert found == Kline(clock.to_us(NOON), *values)
    for other in (
        b"",
        b"{}",
        b'{"error":["EGeneral:Internal error"]}',
        b"[[1]]",
        b'[["x",1,1,1,1,1,1]]',
        b'{"code":-1121}',
    ):
        with pytest.raises(MalformedFrame):
            VENUES[venue].parse_klines(other)


@pytest.mark.parametrize(("venue", "symbol"), URLS)
def test_two_minutes_of_a_symbol_are_asked_for(venue: str, symbol: str) -> None:
    start_us = clock.to_us(NOON)
    assert VENUES[venue].klines_url("https://rest/", symbol, start_us, start_us + 2 * MINUTE_US) == URLS[venue, symbol]


def two_minutes(lake: SmallLake) -> pl.DataFrame:
    """Three minutes of a trade a second at 100, of which the middle one is complete."""
    lake.append(SILVER, trades_of(range(1, 181)))
    lake.trades_refresh().take_in_news()
    lake.candles_refresh().take_in_news()
    return as_frame(lake.table(GOLD_OHLCV_1M).scan().to_arrow())


def test_a_day_is_compared_with_what_the_venues_answer(lake: SmallLake) -> None:
    ours, asked, second = two_minutes(lake), list[str](), clock.to_us(NOON) // 1000 + 60_000

    def answer(close: str) -> tuple[dict[tuple[str, str], list[Kline]], list[str]]:
        def ask(url: str) -> bytes:
            asked.append(url)
            rows = f'[{second},"100","100.0","100","{close}","60.00000000"],[{second - 60_000},"1","1","1","1","1"]'
            return f"[{rows}]".encode()

        return klines_of_day(lake.settings, ours, DAY, ask, lambda _: None)

    same, other = same_as_venue(ours, *answer("100.00")), same_as_venue(ours, *answer("100.01"))

    assert len(asked) == 2, "one reply of the one fed symbol that has candles"
    assert asked[0].startswith("https://api.binance.com/api/v3/klines?symbol=BTCUSDT&")
    assert (same.passed, same.sentence) == (
        True,
        "0 of 1 complete candle that venues have as well differ from theirs.",
    )
    assert (other.passed, other.sentence) == (
        False,
        "1 of 1 complete candle that venues have as well differs from theirs.",
    )
    assert other.samples.select("value", "ours", "venue's").row(0) == ("close", Decimal(100), Decimal("100.01"))


def test_what_a_venue_does_not_answer_is_named(lake: SmallLake) -> None:
    ours = two_minutes(lake)

    def ask(_: str) -> bytes:
        raise DownloadError("https://… could not be fetched: the server answers 451.")

    found = same_as_venue(ours, *klines_of_day(lake.settings, ours, DAY, ask, lambda _: None))
    assert found.sentence.endswith(
        "not compared: binance BTCUSDT (https://… could not be fetched: the server answers 451)."
    )


def test_a_recordings_candles_are_those_of_the_venues_csv_file(recordings: Path, lake: SmallLake) -> None:
    folder = lake.home / "klines"
    folder.mkdir()
    shutil.copy(recordings / KLINES, folder / "binance_BTCUSDT_1m.csv")
    rows = []
    with gzip.open(recordings / RECORDING) as lines:
        for line in lines:
            frame = json.loads(line.split(b" ", 1)[1])
            if frame["stream"].endswith("@trade"):
                each = frame["data"]
                rows.append(a_trade(each["t"], clock.from_us(each["T"] * 1000), price=each["p"], quantity=each["q"]))
    start = datetime(2024, 8, 8, 23, 54, tzinfo=UTC)
    span = Span("binance", "BTCUSDT", clock.to_us(start), clock.to_us(start + timedelta(minutes=12)))
    ours = candles(as_frame(to_arrow(GOLD_TRADES, rows)), [span], MINUTE_US)
    settings = Settings(home=lake.home, reference=Reference(klines=folder))

    same = same_as_venue(ours, *klines_of_day(settings, ours, DAY))
    odd = same_as_venue(ours.with_columns(pl.col("volume") + Decimal("0.00001")), *klines_of_day(settings, ours, DAY))

    assert (same.passed, same.counts["candles compared"]) == (True, 10)
    assert (odd.passed, odd.counts["candles that differ"]) == (False, 10)


def test_a_folder_without_the_days_instruments_says_so_and_asks_nobody(lake: SmallLake) -> None:
    two_minutes(lake)
    settings = lake.settings.model_copy(update={"reference": Reference(klines=lake.home / "none")})
    found = SAME_AS_VENUE.judge(JudgedDay(Lake(settings), GOLD_OHLCV_1M.name, DAY, whole=True))
    assert found.passed
    assert found.sentence.endswith("none has no file of an instrument of the day.")
