"""The venues' protocols side by side, so that the server need not know which is which."""

from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from k2_feeds.simulator import binance, coinbase, kraken
from k2_feeds.simulator.board import Board, Message, Session
from k2_feeds.simulator.market import Event, Side, Trade
from k2_feeds.simulator.simulated_listings import Listing

Texts = tuple[str, str]


class Dialect(NamedTuple):
    """How one venue speaks, and what it expects of its clients."""

    session: Callable[[str, Board], Session]
    streams: Callable[[str], tuple[tuple[str], tuple[str]]]
    messages: Callable[[Iterable[Event], int], Iterator[Message]]
    instruments: Callable[[Iterable[Listing], int], bytes]
    trade_texts: Callable[[Listing, Trade], Texts]
    side_texts: Callable[[Listing, Side | None], Texts]
    requests_a_second: int | None
    subscribe_within_s: float | None


DIALECTS: Final = {
    "binance": Dialect(
        binance.BinanceSession,
        binance.streams,
        binance.messages,
        binance.instruments,
        binance.trade_texts,
        binance.side_texts,
        binance.REQUESTS_A_SECOND,
        binance.SUBSCRIBE_WITHIN_S,
    ),
    "kraken": Dialect(
        kraken.KrakenSession,
        kraken.streams,
        kraken.messages,
        kraken.instruments,
        kraken.trade_texts,
        kraken.side_texts,
        kraken.REQUESTS_A_SECOND,
        kraken.SUBSCRIBE_WITHIN_S,
    ),
    "coinbase": Dialect(
        coinbase.CoinbaseSession,
        coinbase.streams,
        coinbase.messages,
        coinbase.instruments,
        coinbase.trade_texts,
        coinbase.side_texts,
        coinbase.REQUESTS_A_SECOND,
        coinbase.SUBSCRIBE_WITHIN_S,
    ),
}
_INSTRUMENT_PATHS: Final = {
    "/api/v3/exchangeInfo": "binance",
    "/0/public/AssetPairs": "kraken",
    "/products": "coinbase",
}


def venue_of_rest(path: str) -> str | None:
    """Return the venue whose list of instruments is at a path."""
    return _INSTRUMENT_PATHS.get(path)


def venue_of_socket(path: str) -> str | None:
    """Return the venue whose WebSocket is at a path; all stand on one port."""
    if path in {"/stream", "/ws"} or path.startswith("/ws/"):
        return "binance"
    return {"/v2": "kraken", "/": "coinbase", "": "coinbase"}.get(path)
