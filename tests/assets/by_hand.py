"""Candles by definition, in plain Python with fractions: what the fast ones are held against."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

from tests.assets.lakes import Row

MINUTE = timedelta(minutes=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
CONTENT = (
    *("window_end", "window_date", "open_price", "high_price", "low_price", "close_price", "volume", "quote_volume"),
    *("trade_count", "vwap", "first_trade_id", "last_trade_id", "is_complete", "missing_trades"),
)


def candles_by_hand(trades: Iterable[Row], width: timedelta = MINUTE) -> dict[tuple[str, datetime], dict[str, Any]]:
    """Return the candle of every window with a trade, by symbol and start."""
    found = {}
    by_symbol: dict[str, list[Row]] = {}
    for trade in trades:
        by_symbol.setdefault(trade["symbol"], []).append(trade)
    for symbol, of_symbol in by_symbol.items():
        of_symbol.sort(key=lambda t: (t["timestamp"], t["source_sequence"], t["trade_id"]))
        for start in {t["timestamp"] - (t["timestamp"] - EPOCH) % width for t in of_symbol}:
            found[symbol, start] = _candle(of_symbol, start, start + width)
    return found


def _candle(trades: list[Row], start: datetime, end: datetime) -> dict[str, Any]:
    inside = [t for t in trades if start <= t["timestamp"] < end]
    prices = [t["price"] for t in inside]
    volume = sum((Fraction(t["quantity"]) for t in inside), Fraction(0))
    product = sum((Fraction(t["price"]) * Fraction(t["quantity"]) for t in inside), Fraction(0))
    vwap = Decimal(round(product / volume * 10**12)).scaleb(-12)  # Python rounds a fraction's half to even
    return {
        "window_end": end,
        "window_date": start.date(),
        "open_price": prices[0],
        "high_price": max(prices),
        "low_price": min(prices),
        "close_price": prices[-1],
        "volume": _exact(volume, 8),
        "quote_volume": _exact(product, 20) if product < 10**18 else None,
        "trade_count": len(inside),
        "vwap": min(max(vwap, min(prices)), max(prices)),
        "first_trade_id": inside[0]["trade_id"],
        "last_trade_id": inside[-1]["trade_id"],
        **_proof(trades, inside, start, end),
    }


def _proof(trades: list[Row], inside: list[Row], start: datetime, end: datetime) -> dict[str, Any]:
    ids = {t["source_sequence"] for t in trades}
    earlier = [t for t in trades if t["timestamp"] < start]
    later = [t for t in trades if t["timestamp"] >= end]
    before, after = ([t["source_sequence"] for t in side] for side in (earlier, later))
    own = [t["source_sequence"] for t in inside]
    lowest = before[-1] if before else min(own) - 1
    highest = after[0] if after else max(own) + 1
    missing = len([number for number in range(lowest + 1, highest) if number not in ids])
    over = bool(before and after) and highest <= lowest and later[0]["timestamp"] - earlier[-1]["timestamp"] > MINUTE
    return {"is_complete": bool(before and after) and not missing and not over, "missing_trades": missing}


def _exact(number: Fraction, scale: int) -> Decimal:
    scaled = number * 10**scale
    assert scaled.denominator == 1
    return Decimal(f"{scaled.numerator}e-{scale}")


def contents(rows: Iterable[Row]) -> dict[tuple[str, datetime], dict[str, Any]]:
    """Return what a candle says, by symbol and start; without the two times of its writing."""
    found = {}
    for row in rows:
        key = row["symbol"], row["window_start"].astimezone(UTC)
        assert key not in found, f"two candles of {key}"
        found[key] = {name: row[name] for name in CONTENT}
    return found
