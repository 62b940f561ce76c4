"""A seeded random market: prices that walk on their ticks, sizes of long tails, trades in bursts. Pure.

Times are the caller's: the same seed and start give the same trades.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np

_SECOND_MS: Final = 1000
_SETTLE_MS: Final = 3
_PER_ORDER: Final = 0.55  # geometric: an aggressive order meets 1.8 resting ones on average
_MOMENTUM: Final = 0.65  # how often an order takes the side of the one before
_IN_BURSTS: Final = 0.6
_BURST_MS: Final = 25.0
_SIGMA_SIZE: Final = 1.6
_RANGE: Final = 3  # the price stays between a third and three times where it began
MAX_BEHIND_MS: Final = 60_000


class Listing(NamedTuple):
    """How one symbol trades: digits of its tick and lot, where it begins, its usual size in lots, its share."""

    symbol: str
    tick_digits: int
    lot_digits: int
    first_price: float
    median_lots: float
    share: float


LISTINGS: Final = {
    listing.symbol: listing
    for listing in (
        Listing("BTCUSDT", 2, 5, 61_800.00, 120, 0.50),
        Listing("ETHUSDT", 2, 4, 2_680.00, 250, 0.30),
        Listing("BNBUSDT", 2, 3, 512.00, 180, 0.20),
        Listing("SOLUSDT", 2, 3, 155.00, 900, 0.20),
        Listing("XRPUSDT", 4, 1, 0.61, 1_500, 0.10),
        Listing("DOGEUSDT", 5, 0, 0.10527, 900, 0.10),
    )
}


class Event(NamedTuple):
    """One message of a stream, such as ``btcusdt@trade``; ``data`` is its JSON without the wrapping."""

    stream: str
    data: bytes


class _Trade(NamedTuple):
    at_ms: int
    listing: int
    ticks: int
    lots: int
    buyer_is_maker: bool


def listing_of(symbol: str) -> Listing:
    """Return how ``symbol`` trades; one that is not known begins at 1.0000."""
    return LISTINGS.get(symbol) or Listing(symbol, 4, 2, 1.0, 500, 0.1)


class Market:
    """Trades of several symbols at ``rate`` a second in all, exactly, from ``start_ms`` on.

    Ids rise by one per symbol and begin at ``start_ms`` × 1000. A market that begins later therefore has higher ids
    (as long as a symbol trades less than a million times a second): a simulator that was started again never says
    other things under ids that it has used, and what lies between is a gap, as it is when a venue is not listened to.
    """

    def __init__(self, seed: int, symbols: tuple[str, ...], rate: float, start_ms: int) -> None:
        self._random = np.random.default_rng(seed)
        self._listings = [listing_of(symbol) for symbol in symbols]
        shares = np.array([listing.share for listing in self._listings])
        self._shares = shares / shares.sum()
        self._prices = np.array([round(each.first_price * 10**each.tick_digits) for each in self._listings])
        self._first_prices = self._prices.copy()
        self._formats = [_format(listing) for listing in self._listings]
        self._ids = [start_ms * 1000] * len(symbols)
        self._sides = [False] * len(symbols)
        self._rate = rate
        self._start_ms, self._second, self._made = start_ms, 0, 0
        self._pending: list[_Trade] = []
        self._next = 0

    def due(self, now_ms: int) -> Iterator[list[Event]]:
        """Yield what is due at ``now_ms`` in batches of at most a second, in order of time.

        A market that was not asked for a minute or more (a machine that slept) goes on from now, without the trades
        of that time.
        """
        if now_ms - self._start_ms - self._second * _SECOND_MS > MAX_BEHIND_MS:
            self._skip_to(now_ms)
        while True:
            events = self._take(now_ms)
            if events:
                yield events
            if self._next < len(self._pending) or self._start_ms + self._second * _SECOND_MS > now_ms:
                return
            self._make_second()

    def _skip_to(self, now_ms: int) -> None:
        self._second = (now_ms - self._start_ms) // _SECOND_MS
        self._made = int(self._second * self._rate)
        self._pending, self._next = [], 0

    def _take(self, now_ms: int) -> list[Event]:
        begin, trades = self._next, self._pending
        while self._next < len(trades) and trades[self._next].at_ms + _SETTLE_MS <= now_ms:
            self._next += 1
        return [self._event(trade) for trade in trades[begin : self._next]]

    def _event(self, trade: _Trade) -> Event:
        stream, template, tick, lot = self._formats[trade.listing]
        trade_id = self._ids[trade.listing]
        self._ids[trade.listing] = trade_id + 1
        price, quantity = divmod(trade.ticks, tick), divmod(trade.lots, lot)
        side = b"true" if trade.buyer_is_maker else b"false"
        published = trade.at_ms + (trade_id & 1)
        return Event(stream, template % (published, trade_id, *price, *quantity, trade.at_ms, side))

    def _make_second(self) -> None:
        """Draw the trades of the next second: as many as keep the rate, in orders, the orders in bursts."""
        until = int((self._second + 1) * self._rate)
        count, self._made = until - self._made, until
        begin_ms = self._start_ms + self._second * _SECOND_MS
        self._second += 1
        self._pending, self._next = [], 0
        if count == 0:
            return
        orders = self._order_sizes(count)
        listings = self._random.choice(len(self._listings), size=len(orders), p=self._shares)
        lots = np.maximum(1, np.exp(self._random.normal(0, _SIGMA_SIZE, count)) * self._median_lots(listings, orders))
        steps = self._random.integers(0, 3, len(orders))
        turns = self._random.random(len(orders)) > _MOMENTUM
        times = self._order_times(len(orders))
        rows = zip(times, listings.tolist(), orders, steps.tolist(), turns.tolist(), strict=True)
        sizes = iter(lots.astype(np.int64).tolist())
        for at_ms, listing, size, step, turn in rows:
            self._execute(begin_ms + at_ms, listing, step, turn, [next(sizes) for _ in range(size)])

    def _median_lots(self, listings: np.ndarray, orders: list[int]) -> np.ndarray:
        medians = np.array([listing.median_lots for listing in self._listings])
        return np.repeat(medians[listings], orders)

    def _order_sizes(self, count: int) -> list[int]:
        sizes = self._random.geometric(_PER_ORDER, count)
        ends = np.minimum(np.cumsum(sizes), count)
        sizes = np.diff(ends, prepend=0)
        return [int(size) for size in sizes if size]

    def _order_times(self, orders: int) -> list[int]:
        times = self._random.uniform(0, _SECOND_MS, orders)
        centres = self._random.uniform(0, _SECOND_MS, 1 + self._random.poisson(3))
        burst = self._random.random(orders) < _IN_BURSTS
        near = self._random.choice(centres, orders) + self._random.exponential(_BURST_MS, orders)
        clustered: np.ndarray = np.where(burst, near, times) % _SECOND_MS
        return sorted(clustered.astype(int).tolist())

    def _execute(self, at_ms: int, listing: int, step: int, turn: bool, sizes: list[int]) -> None:
        """Let one aggressive order meet resting ones: same time and side, each fill as good as or worse than before."""
        sells = self._sides[listing] ^ turn
        self._sides[listing] = sells
        price, direction = int(self._prices[listing]), -1 if sells else 1
        for number, lots in enumerate(sizes):
            price += direction * step if number else direction * (step > 1)
            price = self._bounded(listing, price)
            self._pending.append(_Trade(at_ms, listing, price, lots, sells))
        self._prices[listing] = price

    def _bounded(self, listing: int, price: int) -> int:
        first = int(self._first_prices[listing])
        return max(first // _RANGE, min(price, first * _RANGE), 1)


def _format(listing: Listing) -> tuple[str, bytes, int, int]:
    price = f"%d.%0{listing.tick_digits}d{'0' * (8 - listing.tick_digits)}"
    lots = f"%d.%0{listing.lot_digits}d{'0' * (8 - listing.lot_digits)}" if listing.lot_digits else "%d.%08d"
    template = f'{{"e":"trade","E":%d,"s":"{listing.symbol}","t":%d,"p":"{price}","q":"{lots}","T":%d,"m":%b,"M":true}}'
    return f"{listing.symbol.lower()}@trade", template.encode(), 10**listing.tick_digits, 10**listing.lot_digits
