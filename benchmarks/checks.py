"""What the checks that refine evaluates cost: on a lake of the simulated market, as they are after some minutes.

Run it with ``.venv/bin/python benchmarks/checks.py``; it builds its lake in a temporary folder, and prints the sentence
and the CPU of each check. Refine evaluates each at most every five minutes.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow as pa
from real_parts import machine

from k2_assets.gold.checks import GOLD_CHECKS
from k2_assets.gold.judged_day import JudgedDay
from k2_assets.gold.refresh_candles import CandlesRefresh
from k2_assets.lake.commits import arrow_schema
from k2_assets.lake.lake_resource import Lake
from k2_core import clock
from k2_core.lake.tables import CANDLES, GOLD_QUOTES, GOLD_TABLES, GOLD_TRADES
from k2_core.settings import Settings
from k2_core.trades import message_id
from k2_feeds.simulator.market import Market, Trades
from k2_feeds.simulator.simulated_listings import default_symbols, listing_of

COMMIT_S = 10


def rows(settings: Settings, rate: float, seconds: int, start_us: int) -> Iterator[tuple[list[Any], list[Any]]]:
    """Yield the trades and quotes of each commit."""
    listings = tuple(listing_of(symbol) for symbol in default_symbols(settings))
    market = Market(2026, listings, rate, start_us)
    for ends in range(COMMIT_S, seconds + 1, COMMIT_S):
        trades, quotes = [], []
        for event in (each for batch in market.due(start_us + ends * 1_000_000) for each in batch):
            listing = event.listing
            symbol = f"{listing.base}{listing.quote}"
            shared = {
                "symbol": symbol, "exchange": listing.venue, "asset_class": "crypto", "currency": listing.quote,
                "platform_sequence": 0, "vendor_data": {},
            }  # fmt: skip
            at, received = clock.from_us(event_us(event)), clock.from_us(event_us(event) + 20_000)
            if isinstance(event, Trades):
                for each in event.trades:
                    identity = message_id(listing.venue, symbol, str(each.number))
                    trades.append(shared | {
                        "message_id": identity, "trade_id": str(each.number), "timestamp": at,
                        "price": Decimal(each.ticks).scaleb(-listing.tick_digits),
                        "quantity": Decimal(each.lots).scaleb(-listing.lot_digits), "side": "BUY",
                        "trade_conditions": [], "source_sequence": each.number, "ingestion_timestamp": received,
                    })  # fmt: skip
                continue
            sides = {}
            for name, side in (("bid", event.bid), ("ask", event.ask)):
                sides[f"{name}_price"] = side and Decimal(side[0]).scaleb(-listing.tick_digits)
                sides[f"{name}_quantity"] = side and Decimal(side[1]).scaleb(-listing.lot_digits)
            identity = message_id(listing.venue, symbol, f"q{event.number}")
            quotes.append(shared | sides | {
                "message_id": identity, "quote_id": str(event.number), "timestamp": at,
                "source_sequence": event.number, "ingestion_timestamp": received,
            })  # fmt: skip
        yield trades, quotes


def event_us(event: Any) -> int:
    return event.trades[0].at_us if isinstance(event, Trades) else event.at_us


def fill(lake: Lake, rate: float, seconds: int) -> None:
    start_us = clock.now_us() - (seconds + 5) * 1_000_000
    for trades, quotes in rows(lake.settings, rate, seconds, start_us):
        for spec, made in ((GOLD_TRADES, trades), (GOLD_QUOTES, quotes)):
            schema = arrow_schema(spec)
            table = lake.table(spec.name)
            table.append(pa.Table.from_pylist(made, schema=schema))
    for spec in CANDLES:
        for day in {clock.from_us(start_us).date(), clock.now().date()}:
            CandlesRefresh(lake.catalog(), lake.namespace, spec, day).take_in_news()


def measure(lake: Lake, rounds: int) -> None:
    total_ms = 0.0
    day = clock.from_us(clock.now_us() - timedelta(seconds=10) // timedelta(microseconds=1)).date()
    for table in GOLD_TABLES:
        spent: dict[str, list[float]] = {}
        for _ in range(rounds):
            judged = JudgedDay(lake, table, day, whole=False)
            for check in (each for each in GOLD_CHECKS if each.table == table and each.by_refine):
                began = time.process_time()
                found = check.judge(judged)
                spent.setdefault(check.name, []).append((time.process_time() - began) * 1000)
                if len(spent[check.name]) == rounds:
                    cpu = median(spent[check.name])
                    total_ms += cpu
                    mark = "passes" if found.passed else "FAILS"
                    print(f"{table:20} {check.name:20} {cpu:7.1f} ms  {mark}: {found.sentence}")
    print(f"all together {total_ms:.0f} ms; every five minutes that is {total_ms / 300_000:.4f} cores")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=200.0, help="trades a second; four times as many quotes")
    parser.add_argument("--seconds", type=int, default=900)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="k2-benchmark-") as home:
        lake = Lake(Settings(home=Path(home)))
        fill(lake, options.rate, options.seconds)
        print(f"{options.rate:g} trades/s for {options.seconds} s, {options.rounds} rounds, median CPU of each check:")
        measure(lake, options.rounds)
    print(machine())


if __name__ == "__main__":
    main()
