"""What the simulated venues trade: how each spells a symbol, its ticks and lots, where its price begins. Only data."""

from functools import cache
from typing import Final, NamedTuple

from k2_core.settings import Settings

VENUES: Final = ("binance", "kraken", "coinbase")
_USUAL_TRADE_USD: Final = 75.0
_QUOTES: Final = ("FDUSD", "USDT", "USDC", "TUSD", "BTC", "ETH", "BNB", "EUR", "GBP", "TRY", "USD")
_DOLLARS: Final = frozenset({"FDUSD", "USDT", "USDC", "TUSD", "USD"})
_MORE: Final = {
    "binance": ("ETHBTC", "PEPEUSDT"),
    "kraken": ("PEPE/USD", "SHIB/USD"),
    "coinbase": ("PEPE-USD", "SHIB-USD"),
}


class Asset(NamedTuple):
    """One coin: its price in dollars, its share of all trades, and (digits of tick, digits of lot) at each venue."""

    usd: float
    share: float
    digits: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]


class Listing(NamedTuple):
    """How one symbol trades at one venue. ``price`` is where it begins, ``median_lots`` a usual trade's size."""

    venue: str
    symbol: str
    base: str
    quote: str
    tick_digits: int
    lot_digits: int
    price: float
    median_lots: float
    share: float


ASSETS: Final = {
    "BTC": Asset(61_800.0, 0.30, ((2, 5), (1, 8), (2, 8))),
    "ETH": Asset(2_680.0, 0.20, ((2, 4), (2, 8), (2, 8))),
    "BNB": Asset(512.0, 0.08, ((2, 3), (2, 8), (2, 8))),
    "SOL": Asset(155.0, 0.12, ((2, 3), (2, 8), (2, 8))),
    "XRP": Asset(0.61, 0.08, ((4, 1), (5, 8), (4, 6))),
    "DOGE": Asset(0.10527, 0.06, ((5, 0), (7, 8), (5, 1))),
    "ADA": Asset(0.341, 0.04, ((4, 1), (6, 8), (4, 8))),
    "AVAX": Asset(22.4, 0.03, ((2, 2), (2, 8), (2, 8))),
    "LINK": Asset(10.6, 0.03, ((2, 2), (5, 8), (3, 2))),
    "LTC": Asset(60.4, 0.02, ((2, 3), (2, 8), (2, 8))),
    "DOT": Asset(4.62, 0.02, ((3, 2), (4, 8), (3, 8))),
    "BCH": Asset(345.0, 0.02, ((1, 3), (2, 8), (2, 8))),
    "PEPE": Asset(0.0000081, 0.02, ((8, 0), (9, 5), (8, 0))),
    "SHIB": Asset(0.0000135, 0.02, ((8, 0), (8, 5), (8, 0))),
}
_UNKNOWN: Final = Asset(1.0, 0.03, ((4, 2), (4, 8), (4, 8)))
_CROSS_TICK_DIGITS: Final = 5  # of a pair whose quote is a coin, such as ETH/BTC
_CROSS_SHARE: Final = 0.03


def default_symbols(settings: Settings) -> tuple[str, ...]:
    """Return what the simulator trades: its own setting, or of each fed venue what is fed, and a few symbols more."""
    if settings.simulator.symbols:
        return settings.simulator.symbols
    feeds = settings.feeds
    venues = [venue for venue in VENUES if venue in feeds.venues]
    return tuple(dict.fromkeys(symbol for venue in venues for symbol in (*feeds.of(venue).symbols, *_MORE[venue])))


@cache
def listing_of(symbol: str) -> Listing:
    """Return how ``symbol`` trades; a coin that is not known begins at one dollar."""
    # BTC/USD is Kraken's spelling, BTC-USD Coinbase's.
    venue = "kraken" if "/" in symbol else "coinbase" if "-" in symbol else "binance"
    separator = next((each for each in "/-" if each in symbol), None)
    if separator:
        base, _, quote = symbol.partition(separator)
    else:  # Binance has no separator: the first known quote at the end, and dollars for want of one
        known = next((each for each in _QUOTES if symbol.endswith(each) and len(symbol) > len(each)), "")
        base, quote = symbol.removesuffix(known), known or "USD"
    asset = ASSETS.get(base, _UNKNOWN)
    tick_digits, lot_digits = asset.digits[VENUES.index(venue)]
    price, share = asset.usd, asset.share
    # A pair of two coins trades at the ratio of their prices, which needs more digits, and less than against dollars.
    if quote not in _DOLLARS and quote in ASSETS:
        price, share, tick_digits = asset.usd / ASSETS[quote].usd, _CROSS_SHARE, max(tick_digits, _CROSS_TICK_DIGITS)
    median_lots = max(1.0, _USUAL_TRADE_USD / asset.usd * 10**lot_digits)
    return Listing(venue, symbol, base, quote, tick_digits, lot_digits, price, median_lots, share)
