"""Frames of each venue, read and looked over for gaps: trades and quotes a second on one core.

    python benchmarks/parse.py RECORDINGS [--runs 9] [--frames 20000]

RECORDINGS is a folder of recordings. Binance's frames are those of its long recording. Of Kraken and Coinbase there are
single frames only: the 1,000 trades of Kraken's recorded REST answer are put into frames of the recorded shape, those
of one moment into one frame (586 frames; the largest has 17), and repeated with ids that go on rising.

gap_check is what a feed does with a frame (route, then the gap tracker), parse_trades what a drain does, both their sum
on one core. The time is the process's own on the CPU, so that other load on the machine counts as little as it can.
"""

import argparse
import gzip
import json
import statistics
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from real_parts import machine

from k2_core.venues import VENUES
from k2_core.venues.venue_protocol import Venue
from k2_feeds.trade_ids.gap_tracker import GapTracker

Read = Callable[[bytes], object]
CHUNK_FRAMES = 100
trackers: list[GapTracker] = []


def binance_frames(recordings: Path) -> Iterator[bytes]:
    with gzip.open(next(recordings.glob("binance_spot_*.jsonl.gz"))) as lines:
        for line in lines:
            yield line.split(b" ", 1)[1].rstrip(b"\n")


def rest_trades(recordings: Path) -> Iterator[list[list[Any]]]:
    """Yield trades of one moment, for ever, with ids that go on rising."""
    rows = json.loads((recordings / "kraken_rest_trades.json").read_text(), parse_float=str)["result"]["XBTUSDT"]
    first = rows[0][6]
    while True:
        for _, together in groupby(rows, key=lambda row: row[2]):
            yield [[*row[:6], first := first + 1] for row in together]


def kraken_frames(recordings: Path) -> Iterator[bytes]:
    for rows in rest_trades(recordings):
        trades = ",".join(
            f'{{"symbol":"BTC/USDT","side":"{"buy" if row[3] == "b" else "sell"}","price":{row[0]},"qty":{row[1]},'
            f'"ord_type":"{"limit" if row[4] == "l" else "market"}","trade_id":{row[6]},'
            f'"timestamp":"{rfc3339(row[2])}"}}'
            for row in rows
        )
        yield f'{{"channel":"trade","type":"update","data":[{trades}]}}'.encode()


def coinbase_frames(recordings: Path) -> Iterator[bytes]:
    for number, rows in enumerate(rest_trades(recordings)):
        trades = ",".join(
            f'{{"product_id":"BTC-USDT","trade_id":"{row[6]}","price":"{row[0]}","size":"{row[1]}",'
            f'"time":"{rfc3339(row[2])}","side":"{"SELL" if row[3] == "b" else "BUY"}"}}'
            for row in rows
        )
        yield (
            f'{{"channel":"market_trades","timestamp":"{rfc3339(rows[0][2])[:-1]}123Z","sequence_num":{number},'
            f'"events":[{{"type":"update","trades":[{trades}]}}]}}'
        ).encode()


def quote_frames(recordings: Path, name: str) -> Iterator[bytes]:
    """Yield the recorded frame as a venue sends it, without the line breaks that somebody put in, for ever."""
    frame = b"".join(line.strip() for line in (recordings / name).read_bytes().splitlines())
    while True:
        yield frame


def rfc3339(seconds: str) -> str:
    whole, _, fraction = seconds.partition(".")
    return f"{datetime.fromtimestamp(int(whole), UTC):%Y-%m-%dT%H:%M:%S}.{fraction[:6].ljust(6, '0')}Z"


def gap_check(venue: Venue) -> Read:
    tracker = GapTracker()
    route, see = venue.route, tracker.see

    def check(payload: bytes) -> None:
        for run in route(payload).runs:
            see(*run)

    trackers.append(tracker)

    return check


def both(venue: Venue) -> Read:
    parse, check = venue.parse, gap_check(venue)

    def read(payload: bytes) -> None:
        check(payload)
        parse(payload)

    return read


def parse_trades(venue: Venue) -> Read:
    read: Read = venue.parse
    return read


def parse_quotes(venue: Venue) -> Read:
    read: Read = venue.parse_quotes
    return read


def measure(venue: Venue, make: Callable[[Venue], Read], frames: list[bytes], items: int, runs: int) -> None:
    rates, chunks_us = [], []
    for _ in range(runs):
        read, spent = make(venue), 0.0
        for first in range(0, len(frames), CHUNK_FRAMES):
            chunk = frames[first : first + CHUNK_FRAMES]
            started = time.process_time()
            for frame in chunk:
                read(frame)
            took = time.process_time() - started
            spent += took
            chunks_us.append(took / len(chunk) * 1e6)
        rates.append(items / spent)
        assert not any(tracker.due(0.0, 0.0) for tracker in trackers), "the frames have no gaps"
    median, p99 = statistics.median(chunks_us), statistics.quantiles(chunks_us, n=100)[98]
    print(
        f"{venue.VENUE:8} {make.__name__:12} n={len(frames)} frames, {items} items, {runs} runs: "
        f"median {statistics.median(rates):>9,.0f}/s, best {max(rates):>9,.0f}/s; "
        f"a frame (of {CHUNK_FRAMES}) median {median:.2f} µs, p99 {p99:.2f} µs"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", type=Path)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--frames", type=int, default=20_000, help="at most, of each kind")
    options = parser.parse_args()
    folder, most = options.recordings, options.frames
    recorded = [(frame, VENUES["binance"].route(frame).channel) for frame in binance_frames(folder)]
    trades = {
        "binance": [frame for frame, channel in recorded if channel == "trade"][:most],
        "kraken": list(islice(kraken_frames(folder), most)),
        "coinbase": list(islice(coinbase_frames(folder), most)),
    }
    quotes = {
        "binance": [frame for frame, channel in recorded if channel == "quote"][:most],
        "kraken": list(islice(quote_frames(folder, "kraken_v2_ticker_snapshot.json"), most)),
        "coinbase": list(islice(quote_frames(folder, "coinbase_advanced_ticker.json"), most)),
    }
    for name, venue in VENUES.items():
        count = sum(len(venue.parse(frame)) for frame in trades[name])
        for make in (gap_check, parse_trades, both):
            measure(venue, make, trades[name], count, options.runs)
        measure(venue, parse_quotes, quotes[name], len(quotes[name]), options.runs)
    print(machine())


if __name__ == "__main__":
    main()
