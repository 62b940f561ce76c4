"""The broker is killed under load and comes back with its data: the drain says so, waits, and goes on."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from k2_core.settings import Ports, Settings
from tests.assets.own_topic import TRADE, OwnTopic
from tests.reliability.beside import draining, in_kafka
from tests.reliability.measured import Faults
from tests.reliability.own_broker import OwnBroker, an_own_broker
from tests.reliability.waiting import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.reliability("surroundings"), pytest.mark.drawn("venues")]

SOME = 500


@pytest.fixture
def own_broker(tmp_path: Path, free_ports: Callable[[], Ports]) -> Iterator[OwnBroker]:
    with an_own_broker(Settings(home=tmp_path / "broker", ports=free_ports())) as broker:
        yield broker


def test_a_broker_killed_under_load_comes_back_and_nothing_is_lost(
    own_broker: OwnBroker,
    registry: str,
    tmp_path: Path,
    *,
    reliability: Faults,
    rng: random.Random,
    soak: bool,
) -> None:
    own_topic = OwnTopic(own_broker.settings.bootstrap_servers, registry, tmp_path / "home")
    for absence_s in (0.0, 5.0, 40.0, 0.0, 40.0) if soak else (rng.choice([0.0, 5.0]),):
        with draining(own_topic) as drain:
            own_topic.produce(SOME, kinds=(TRADE,))
            standing = len(own_topic.produced)
            load = threading.Thread(target=own_topic.produce, args=(20_000, 1, (TRADE,)))
            load.start()
            wait_until(lambda: len(own_topic.produced) > standing + SOME, drain.said)  # noqa: B023  # asked at once
            own_broker.kill()
            noticed_s = None
            if absence_s:
                noticed_s = drain.until_it_says(f"Kafka at {own_topic.broker} does not answer")
                time.sleep(absence_s)
            own_broker.start()
            load.join()
            recovered_s = drain.until_all_stands()
            wait_until(lambda: drain.said() == "waiting: ", drain.said)
        kafka, bronze = in_kafka(own_topic), own_topic.origins("bronze")
        silver = own_topic.origins("silver") + own_topic.origins("rejected")
        lost, doubled = (kafka - bronze).total() + (kafka - silver).total(), (bronze - kafka).total()
        doubled += (silver - kafka).total()
        fault = f"broker killed under load, away for {absence_s:.0f} s"
        times = {"noticed_s": noticed_s, "recovered_s": recovered_s}
        reliability.record(fault, **times, compared=2 * kafka.total(), lost=lost, doubled=doubled)
        assert (lost, doubled) == (0, 0)
        acknowledged = own_topic.must_stand(TRADE)
        assert acknowledged <= bronze, "what Kafka had acknowledged was lost"
