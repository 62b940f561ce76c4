"""The banner's curl: a line that really shows candles of what is fed."""

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from k2_core.settings import Feeds, Ports, Settings
from k2_stack import banner, probes
from k2_stack.stack_state import StackState


def symbol_in_banner(settings: Settings) -> str:
    now = StackState(str(settings.home), "simulator", 1, 1.0, [], ready_after_s=1.0)
    line = next(line for line in banner.banner(settings, now).splitlines() if "curl" in line)
    url = shlex.split(line.strip())[-1]
    return url.partition("symbol=")[2].partition("&")[0]


@pytest.mark.parametrize(
    ("fed", "symbol"),
    [
        ({"kraken": ["BTC/USD", "ETH/USD"]}, "BTCUSD"),
        ({"kraken": ["XBT/USD"]}, "BTCUSD"),
        ({"coinbase": ["BTC-USDC"]}, "BTCUSDC"),
        ({"coinbase": ["ETH-BTC"], "kraken": ["BTC/USD"]}, "ETHBTC"),
        ({"binance": ["ETHUSDT"]}, "ETHUSDT"),
        ({"binance": ["币安人生USDT"]}, "%E5%B8%81%E5%AE%89%E4%BA%BA%E7%94%9FUSDT"),
        ({"kraken": [], "coinbase": ["no product", "SOL-USD"]}, "SOLUSD"),
    ],
)
def test_curl_asks_for_what_is_fed_as_the_api_spells_it(
    fed: dict[str, list[str]], symbol: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes, "feed_symbols", lambda _: fed)

    assert symbol_in_banner(Settings(home=tmp_path)) == symbol


def test_curl_asks_for_what_the_settings_feed_while_the_feed_does_not_answer(
    tmp_path: Path, free_ports: Callable[[], Ports]
) -> None:
    settings = Settings(home=tmp_path, ports=free_ports(), feeds=Feeds(venues=("coinbase", "binance")))

    assert symbol_in_banner(settings) == "BTCUSD"
