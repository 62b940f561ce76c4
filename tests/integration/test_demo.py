"""The tour that a newcomer takes: all venues on the whole platform, broken and mended before their eyes."""

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from k2_core.settings import Ports, Settings
from k2_stack import processes, stack_state
from tests.integration.whole_platform import Platform

pytestmark = [pytest.mark.integration, pytest.mark.drawn("platforms")]
ALL = '["binance","kraken","coinbase"]'


def test_demo_shows_every_station_and_leaves_nothing_running(tmp_path: Path, free_ports: Callable[[], Ports]) -> None:
    platform = Platform(tmp_path / "home", free_ports(), K2_FEEDS__VENUES=ALL)

    with socket.create_server(("127.0.0.1", platform.ports.dagster)):  # as a platform beside it holds its own
        said = platform.k2("demo")

    assert str(platform.ports.dagster) not in said

    reported = [line.strip() for line in said.splitlines() if line.startswith("        ")]
    assert any("kraken" in line and "coinbase" in line and "frames" in line for line in reported)
    assert any("has noticed the hole" in line for line in reported)
    assert any("has handed over to pid" in line for line in reported)
    assert any("not complete" in line and "missing" in line for line in reported)
    assert ["silver_coinbase_rejected", "1"] in [line.split() for line in reported]
    assert said.endswith("K2 has ended.\n")
    home = platform.home.with_name("home-demo")
    assert processes.marked(home) == []
    now = stack_state.read(Settings(home=home))
    assert now
    assert now.phase == "stopped"
