"""A seeded random market for all venues: prices that walk on their ticks, trades in bursts, quotes around them. Pure.

Times are the caller's: the same seed and start give the same trades and quotes.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from k2_feeds.simulator.simulated_listings import ASSETS, Listing

_SECOND_US: Final = 1_000_000
_SETTLE_US: Final = 3_000
_PER_ORDER: Final = 0.55  # geometric: an aggressive order meets 1.8 resting ones on average
_MOMENTUM: Final = 0.65  # how often an order takes the side of the one before
_IN_BURSTS: Final = 0.6
_BURST_US: Final = 25_000.0
_SIGMA_SIZE: Final = 1.6
_SIGMA_FAIR: Final = 0.0002  # of an asset's price, per root second
_PULL: Final = 0.3  # how far a venue's price goes to the fair one within a second
_RANGE: Final = 3  # a price stays between a third and three times where it began
_LOCKED, _CROSSED, _NO_BID, _NO_ASK = 0.002, 0.003, 0.0045, 0.006  # cumulated shares of unusual quotes
MAX_BEHIND_US: Final = 60_000_000

Side = tuple[int, int]
"""Ticks and lots of one side of a quote."""


class Trade(NamedTuple):
    """One trade. ``sells``: whether the aggressor sold."""

    number: int
    ticks: int
    lots: int
    sells: bool
    at_us: int


class Trades(NamedTuple):
    """What one aggressive order met at one moment."""

    listing: Listing
    trades: list[Trade]


class Quote(NamedTuple):
    """The best bid and offer from a moment on; a side that nobody offers is None. ``number`` rises, with leaps."""

    listing: Listing
    number: int
    bid: Side | None
    ask: Side | None
    at_us: int
    last_ticks: int


Event = Trades | Quote


class _Order(NamedTuple):
    at_us: int
    listing: int
    sells: bool
    fills: list[Side]


class _Change(NamedTuple):
    at_us: int
    listing: int
    leap: int
    bid: Side | None
    ask: Side | None
    last_ticks: int


class Market:
    """Trades of all listings at ``rate`` a second in all, exactly, and ``quotes_per_trade`` as many quotes.

    Ids rise by one per listing and begin at ``start_us``. A market that begins later therefore has higher ids (as long
    as a symbol trades less than a million times a second): a simulator that was started again never says other things
    under ids that it has used, and what lies between is a gap, as it is when a venue is not listened to.
    """

    def __init__(
        self, seed: int, listings: tuple[Listing, ...], rate: float, start_us: int, quotes_per_trade: float = 4.0
    ) -> None:
        self._random = np.random.default_rng(seed)
        self._listings = listings
        shares = np.array([listing.share for listing in listings])
        self._shares = shares / shares.sum()
        self._median_lots = np.array([listing.median_lots for listing in listings])
        self._fair = {asset: 1.0 for each in listings for asset in (each.base, each.quote) if asset in ASSETS}
        self._prices = [max(1, int(each.price * 10**each.tick_digits + 0.5)) for each in listings]
        self._first_prices: list[int] = list(self._prices)
        # By number of the listing: next ids, whether the last order sold, and when it was last quoted.
        self._ids = [start_us] * len(listings)
        self._quote_ids = [start_us] * len(listings)
        self._sides = [False] * len(listings)
        self._quoted_us = [0] * len(listings)
        self._rates = (rate, rate * quotes_per_trade)
        self._start_us, self._second = start_us, 0
        self._pending: list[_Order | _Change] = []
        self._next = 0

    def due(self, now_us: int) -> Iterator[list[Event]]:
        """Yield what is due at ``now_us`` in batches of at most a second, in order of time.

        A market that was not asked for a minute or more (a machine that slept) goes on from now, without the trades
        of that time.
        """
        if now_us - self._start_us - self._second * _SECOND_US > MAX_BEHIND_US:
            self._second = (now_us - self._start_us) // _SECOND_US
            self._pending, self._next = [], 0
        while True:
            begin, pending = self._next, self._pending
            while self._next < len(pending) and pending[self._next].at_us + _SETTLE_US <= now_us:
                self._next += 1
            if begin < self._next:
                yield [self._event(each) for each in pending[begin : self._next]]
            # Events of this second are left, or the next one has not begun.
            if self._next < len(self._pending) or self._start_us + self._second * _SECOND_US > now_us:
                return
            self._make_second()

    def _event(self, made: _Order | _Change) -> Event:
        """Give ids, now that it happens: what was drawn and never happened uses none up."""
        listing = self._listings[made.listing]
        if isinstance(made, _Order):
            first = self._ids[made.listing]
            self._ids[made.listing] = first + len(made.fills)
            numbered = enumerate(made.fills, start=first)
            return Trades(listing, [Trade(number, *fill, made.sells, made.at_us) for number, fill in numbered])
        self._quote_ids[made.listing] += made.leap
        return Quote(listing, self._quote_ids[made.listing], made.bid, made.ask, made.at_us, made.last_ticks)

    def _make_second(self) -> None:
        """Draw the next second: as many trades as keep the rate, in orders, the orders in bursts, and the quotes."""
        # Counts are differences of what the rate makes in all, so that fractions of a trade a second add up.
        counts = [int((self._second + 1) * rate) - int(self._second * rate) for rate in self._rates]
        begin_us = self._start_us + self._second * _SECOND_US
        self._second += 1
        self._next = 0
        # The assets' fair prices move, and each venue's price towards them: venues differ, but not for long.
        steps = self._random.normal(0, _SIGMA_FAIR, len(self._fair)).tolist()
        for asset, step in zip(self._fair, steps, strict=True):
            self._fair[asset] = max(1 / _RANGE, min(self._fair[asset] * (1 + step), _RANGE))
        for number, listed in enumerate(self._listings):
            moved = self._fair.get(listed.base, 1.0) / self._fair.get(listed.quote, 1.0)
            fair = self._first_prices[number] * moved
            self._prices[number] = self._bounded(number, round(self._prices[number] * (1 - _PULL) + fair * _PULL))
        # Orders and quotes share the moments around which they cluster. Only then do prices move, in order of time: an
        # order moves the price that later orders and quotes of its listing begin from.
        centres = self._random.uniform(0, _SECOND_US, 1 + self._random.poisson(3))
        orders, quotes = self._draw_orders(counts[0], centres), self._draw_quotes(counts[1], centres)
        drawn: list[tuple[tuple[Any, ...], Callable[..., _Order | _Change]]] = [
            (each, self._execute) for each in orders
        ]
        drawn += [(each, self._requote) for each in quotes]
        self._pending = []
        for (after_us, listing, *rest), happen in sorted(drawn, key=lambda pair: pair[0][0]):
            at_us = begin_us + after_us
            if self._listings[listing].venue == "binance":
                at_us -= at_us % 1000  # it gives milliseconds
            self._pending.append(happen(at_us, listing, *rest))

    def _draw_orders(self, count: int, centres: npt.NDArray[np.float64]) -> list[tuple[int, int, int, bool, list[int]]]:
        # An order's size is how many trades it makes; the last one is cut, so that all make ``count``.
        ends = np.minimum(np.cumsum(self._random.geometric(_PER_ORDER, count)), count)
        sizes = [int(size) for size in np.diff(ends, prepend=0) if size]
        listings = self._random.choice(len(self._listings), size=len(sizes), p=self._shares)
        medians = np.repeat(self._median_lots[listings], sizes)
        lots = np.maximum(1, np.exp(self._random.normal(0, _SIGMA_SIZE, count)) * medians).astype(np.int64).tolist()
        steps = self._random.integers(0, 3, len(sizes)).tolist()
        turns = (self._random.random(len(sizes)) > _MOMENTUM).tolist()
        fills = [lots[end - size : end] for end, size in zip(np.cumsum(sizes).tolist(), sizes, strict=True)]
        return list(zip(self._times(len(sizes), centres), listings.tolist(), steps, turns, fills, strict=True))

    def _draw_quotes(self, count: int, centres: npt.NDArray[np.float64]) -> list[tuple[int, int, list[int], float]]:
        listings = self._random.choice(len(self._listings), size=count, p=self._shares)
        # Sizes are log-normal as those of trades, and larger: what is offered is rarely taken whole.
        lots = np.exp(self._random.normal(1, _SIGMA_SIZE, (count, 2))) * self._median_lots[listings][:, None]
        below, spread = self._random.integers(0, 3, count), self._random.geometric(0.7, count)
        leaps = self._random.integers(1, 40, count)
        whole = np.maximum(1, lots).astype(np.int64)
        shapes = np.column_stack((leaps, below, spread, whole)).tolist()
        odd = self._random.random(count).tolist()
        return list(zip(self._times(count, centres), listings.tolist(), shapes, odd, strict=True))

    def _times(self, count: int, centres: npt.NDArray[np.float64]) -> list[int]:
        # Either anywhere in the second, or soon after one of its centres; past its end they begin again at its start.
        times = self._random.uniform(0, _SECOND_US, count)
        near = self._random.choice(centres, count) + self._random.exponential(_BURST_US, count)
        clustered: npt.NDArray[np.float64] = np.where(self._random.random(count) < _IN_BURSTS, near, times) % _SECOND_US
        found: list[int] = clustered.astype(np.int64).tolist()
        return found

    def _execute(self, at_us: int, listing: int, step: int, turn: bool, sizes: list[int]) -> _Order:
        """Let one aggressive order meet resting ones: same time and side, each fill as good as or worse than before."""
        sells = self._sides[listing] ^ turn
        self._sides[listing] = sells
        price, direction = self._prices[listing], -1 if sells else 1
        # The first fill is at the price of before or a tick worse, each later one up to two ticks worse than the last.
        fills = []
        for number, lots in enumerate(sizes):
            price += direction * step if number else direction * (step > 1)
            price = self._bounded(listing, price)
            fills.append((price, lots))
        self._prices[listing] = price
        return _Order(at_us, listing, sells, fills)

    def _requote(self, at_us: int, listing: int, shape: list[int], odd: float) -> _Change:
        """Quote around the last price; now and then locked, crossed or on one side only."""
        last = self._prices[listing]
        leap, below, spread, bid_lots, ask_lots = shape
        at_us = self._quoted_us[listing] = max(at_us, self._quoted_us[listing] + 1)  # never twice at one time
        bid = max(1, last - below)
        # ``odd`` is drawn evenly from 0 to 1: a few in a thousand are locked, crossed, or without a bid or an ask.
        ask = bid if odd < _LOCKED else max(1, bid - spread) if odd < _CROSSED else bid + spread
        no_bid, no_ask = _CROSSED <= odd < _NO_BID, _NO_BID <= odd < _NO_ASK
        sides = None if no_bid else (bid, bid_lots), None if no_ask else (ask, ask_lots)
        return _Change(at_us, listing, leap, *sides, last)

    def _bounded(self, listing: int, price: int) -> int:
        first = self._first_prices[listing]
        return max(first // _RANGE, min(price, first * _RANGE), 1)
