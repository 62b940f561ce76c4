"""Frames as venues send them, with any field changed or left out: what the tests of venue modules share."""

import gzip
import json
from itertools import islice
from pathlib import Path
from typing import Any

from k2_core.errors import MalformedFrame

KRAKEN_TRADE = {
    "symbol": '"BTC/USD"', "side": '"buy"', "price": "105944.20", "qty": "0.00027625", "ord_type": '"limit"',
    "trade_id": "10218208", "timestamp": '"2023-10-06T17:35:55.440295Z"',
}  # fmt: skip
KRAKEN_QUOTE = {
    "symbol": '"BTC/USD"', "bid": "105944.20", "bid_qty": "2.5", "ask": "105944.30", "ask_qty": "3.2",
    "timestamp": '"2022-12-25T09:30:59.123456Z"',
}  # fmt: skip
COINBASE_TRADE = {
    "trade_id": "995098700", "product_id": "BTC-USD", "price": "68900.50", "size": "0.00150000", "side": "BUY",
    "time": "2026-04-07T14:30:02.789012Z",
}  # fmt: skip
COINBASE_QUOTE = {
    "type": "ticker", "product_id": "BTC-USD", "price": "68900.50", "best_bid": "68900.00",
    "best_bid_quantity": "1.5", "best_ask": "68901.00", "best_ask_quantity": "0.5",
}  # fmt: skip
LEFT_OUT = object()


def kraken_trade(**texts: Any) -> str:
    """A trade as JSON text; fields are given as JSON texts, so that numbers stay as they are written."""
    return _kraken_item(KRAKEN_TRADE | texts)


def kraken_quote(**texts: Any) -> str:
    return _kraken_item(KRAKEN_QUOTE | texts)


def _kraken_item(texts: dict[str, Any]) -> str:
    return "{" + ",".join(f'"{name}":{text}' for name, text in texts.items() if text is not LEFT_OUT) + "}"


def kraken_trades(*items: str, kind: str = "update") -> bytes:
    return f'{{"channel":"trade","type":"{kind}","data":[{",".join(items)}]}}'.encode()


def kraken_quotes(*items: str) -> bytes:
    return f'{{"channel":"ticker","type":"update","data":[{",".join(items)}]}}'.encode()


def coinbase_trade(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in (COINBASE_TRADE | fields).items() if value is not LEFT_OUT}


def coinbase_quote(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in (COINBASE_QUOTE | fields).items() if value is not LEFT_OUT}


def coinbase_trades(*trades: Any, **envelope: Any) -> bytes:
    return coinbase_frame("market_trades", [{"type": "update", "trades": list(trades)}], **envelope)


def coinbase_quotes(*quotes: Any, **envelope: Any) -> bytes:
    return coinbase_frame("ticker", [{"type": "update", "tickers": list(quotes)}], **envelope)


def coinbase_frame(channel: str, events: Any, **envelope: Any) -> bytes:
    head = {"channel": channel, "client_id": "", "timestamp": "2026-04-07T14:30:02.789012345Z", "sequence_num": 5}
    frame = head | envelope | {"events": events}
    return json.dumps({name: value for name, value in frame.items() if value is not LEFT_OUT}).encode()


def reason_of(parse: Any, payload: bytes) -> str:
    """Why a frame, or the one item that it has, is refused."""
    try:
        found = parse(payload)
    except MalformedFrame as error:
        return error.reason
    assert found is not None, payload
    (item,) = found
    assert hasattr(item, "reason"), item
    reason: str = item.reason
    return reason


def recorded(recordings: Path, venue: str) -> list[bytes]:
    """Real frames of a venue, those of Binance from its long recording."""
    single = [path.read_bytes() for path in sorted(recordings.glob(f"{venue}_*.json")) if "rest" not in path.name]
    if venue != "binance":
        return single
    with gzip.open(next(recordings.glob("binance_spot_btcusdt_*.jsonl.gz"))) as lines:
        return [line.split(b" ", 1)[1].rstrip(b"\n") for line in islice(lines, 60)]
