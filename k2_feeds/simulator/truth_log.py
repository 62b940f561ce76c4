"""What the market really did and what the faults did to it, as JSON lines in a folder. Appends to what is there."""

import json
from pathlib import Path
from typing import IO, Any, Final

from k2_core import clock
from k2_feeds.simulator.board import Message
from k2_feeds.simulator.dialects import DIALECTS
from k2_feeds.simulator.market import Quote, Trades

_FILES: Final = ("trades", "quotes", "dropped", "faults")
_BUFFER_BYTES: Final = 1 << 20  # whole lines reach the file: only a flush writes


class Truth:
    """Four files: trades, quotes, dropped (what a fault kept from all subscribers), faults. Without a folder, none."""

    def __init__(self, folder: Path | None) -> None:
        self._files: dict[str, IO[str]] = {}
        if folder is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        for name in _FILES:
            self._files[name] = (folder / f"{name}.jsonl").open("a", buffering=_BUFFER_BYTES, encoding="utf-8")

    def happened(self, events: list[Trades | Quote]) -> None:
        """Write trades and quotes as the venue tells them, whether anybody listens or not.

        ``told_us`` of a quote is when, by this machine's clock: its own time may be skewed, or missing.
        """
        if not self._files:
            return
        trades, quotes, told_us = self._files["trades"], self._files["quotes"], clock.now_us()
        for event in events:
            if isinstance(event, Quote):
                quotes.write(json.dumps({**quote_row(event), "told_us": told_us}) + "\n")
                continue
            for trade in event.trades:
                price, quantity = DIALECTS[event.listing.venue].side_texts(event.listing, (trade.ticks, trade.lots))
                trades.write(
                    f'{{"venue":"{event.listing.venue}","symbol":"{event.listing.symbol}","id":{trade.number},'
                    f'"price":"{price}","quantity":"{quantity}","side":"{"SELL" if trade.sells else "BUY"}",'
                    f'"time_us":{trade.at_us}}}\n'
                )

    def dropped(self, venue: str, message: Message, fault: str) -> None:
        """Write what a fault kept from everybody who was subscribed."""
        event = message.event
        if event is None:
            row: dict[str, Any] = {"venue": venue, "data": "frame", "frame": message.body.decode("utf-8", "replace")}
        elif isinstance(event, Quote):
            row = {**quote_row(event), "data": "quotes"}
        else:
            ids = {"first": event.trades[0].number, "last": event.trades[-1].number}
            row = {"venue": venue, "symbol": event.listing.symbol, "data": "trades", **ids}
        self._write("dropped", {**row, "fault": fault})

    def fault(self, venue: str, fault: str, **details: Any) -> None:
        """Write that a fault began or ended, or a client came or went."""
        self._write("faults", {"at_ns": clock.now_ns(), "venue": venue, "fault": fault, **details})

    def flush(self) -> None:
        """Hand all that was written to the operating system."""
        for file in self._files.values():
            file.flush()

    def close(self) -> None:
        """Flush and close the files; nothing is written afterwards."""
        for file in self._files.values():
            file.close()
        self._files = {}

    def _write(self, name: str, row: dict[str, Any]) -> None:
        if self._files:
            self._files[name].write(json.dumps(row) + "\n")


def quote_row(quote: Quote) -> dict[str, Any]:
    """Return a quote as the truth tells it; Binance sends ids and no times, the others times and no ids."""
    listing, has_ids = quote.listing, quote.listing.venue == "binance"
    sides = DIALECTS[listing.venue].side_texts
    bid, ask = (sides(listing, side) if side else (None, None) for side in (quote.bid, quote.ask))
    return {
        "venue": listing.venue,
        "symbol": listing.symbol,
        "id": quote.number if has_ids else None,
        "bid": bid[0],
        "bid_quantity": bid[1],
        "ask": ask[0],
        "ask_quantity": ask[1],
        "time_us": None if has_ids else quote.at_us,
    }
