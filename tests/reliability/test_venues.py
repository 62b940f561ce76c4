"""All venues in the simulator, broken in every way: gold is the truth less exactly what the feeds report as missing."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from k2_core.settings import Kafka, Ports, Registry, Settings
from tests.reliability.forwarder import Forwarder
from tests.reliability.measured import Faults
from tests.reliability.own_broker import OwnBroker, an_own_broker
from tests.reliability.truth import Outcome, Truth
from tests.reliability.venues import Venues, end
from tests.reliability.waiting import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.reliability("venues"), pytest.mark.drawn("venues")]

RATE = 300.0
PATIENT: dict[str, str] = {
    "K2_FEEDS__SILENCE_S": "5",
    "K2_FEEDS__BACKOFF_FIRST_S": "0.2",
    "K2_FEEDS__BACKOFF_LAST_S": "2",
}
SOME_S = 3


@pytest.fixture
def own_broker(tmp_path: Path, free_ports: Callable[[], Ports]) -> Iterator[OwnBroker]:
    with an_own_broker(Settings(home=tmp_path / "broker", ports=free_ports())) as broker:
        yield broker


@pytest.fixture
def venues(own_broker: OwnBroker, registry: str, tmp_path: Path, free_ports: Callable[[], Ports]) -> Iterator[Venues]:
    kafka, its_registry = Kafka(bootstrap_servers=own_broker.settings.bootstrap_servers), Registry(url=registry)
    settings = Settings(home=tmp_path / "home", ports=free_ports(), kafka=kafka, registry=its_registry)
    found = Venues(settings, RATE, PATIENT)
    yield found
    found.close()


def record(reliability: Faults, fault: str, outcome: Outcome, injected: int = 1) -> None:
    lost, doubled = len(outcome.missing - outcome.reported), len(outcome.twice)
    reliability.record(fault, injected=injected, compared=outcome.compared, lost=lost, doubled=doubled)


def test_every_fault_at_random_is_reported_to_the_digit(venues: Venues, soak: bool, reliability: Faults) -> None:
    with venues.market("--faults", "random"):
        feed = venues.start_feed()
        time.sleep(600 if soak else 20)
        assert end(feed) == 0
    venues.drain()
    venues.refine()
    truth = Truth(venues.truth_folder)
    outcome = venues.compare()
    record(reliability, "venue: every fault at random", outcome, sum(truth.injected().values()))
    outcome.assert_exact()
    assert outcome.missing, "no fault cost a trade: nothing was tried"
    venues.assert_quotes_are_the_truth()


def test_killed_feed_cut_network_and_restarted_broker_are_reported_to_the_digit(
    venues: Venues, own_broker: OwnBroker, soak: bool, reliability: Faults
) -> None:
    between = Forwarder(("127.0.0.1", venues.settings.ports.simulator))
    between.open()
    venues.market_port = between.port
    with venues.market():
        feed = venues.start_feed()
        for _ in range(5 if soak else 1):
            time.sleep(SOME_S)
            os.killpg(feed.pid, signal.SIGKILL)
            feed.wait()
            feed = venues.start_feed()
            time.sleep(SOME_S)
            between.close()
            wait_until(lambda: not venues.is_connected(), venues.health)
            between.open()
            wait_until(venues.is_connected, venues.health)
            time.sleep(SOME_S)
            own_broker.kill()
            time.sleep(SOME_S)
            own_broker.start()
            time.sleep(SOME_S)
        assert end(feed) == 0
    between.close()
    venues.drain()
    venues.refine()
    outcome = venues.compare()
    record(reliability, "feed killed, its network cut, broker restarted, in turn", outcome, 15 if soak else 3)
    outcome.assert_exact()
    assert outcome.missing, "the kill cost no trade: it was not under load"
    venues.assert_quotes_are_the_truth()


def test_successor_takes_over_without_a_gap(venues: Venues) -> None:
    with venues.market():
        feed = venues.start_feed()
        time.sleep(SOME_S)
        successor = venues.start_feed("--take-over")
        assert feed.wait(timeout=60) == 0
        time.sleep(SOME_S)
        assert end(successor) == 0
    venues.drain()
    venues.refine()
    outcome = venues.compare()
    outcome.assert_exact()
    assert not outcome.missing
    kinds = {event["kind"] for event in venues.events()}
    assert "handover" in kinds
