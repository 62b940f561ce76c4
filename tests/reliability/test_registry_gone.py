"""The schema registry is away when a drain needs it: it says so, waits, and goes on by itself."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from k2_core import topics
from k2_core.registry import Registry
from tests.assets.frames import an_evolved_schema
from tests.assets.own_topic import OwnTopic
from tests.reliability.beside import compare, draining, settings_of
from tests.reliability.forwarder import Forwarder
from tests.reliability.measured import Faults

pytestmark = [pytest.mark.integration, pytest.mark.reliability("surroundings")]

SOME = 200


@pytest.fixture
def own_topic(broker: str, registry: str, tmp_path: Path) -> OwnTopic:
    return OwnTopic(broker, registry, tmp_path / "home")


@pytest.fixture
def forwarder(registry: str) -> Iterator[Forwarder]:
    parts = urlsplit(registry)
    made = Forwarder((parts.hostname or "", parts.port or 0))
    yield made
    made.close()


def through(forwarder: Forwarder, registry: str) -> str:
    return registry.replace(str(urlsplit(registry).port), str(forwarder.port))


def test_a_drain_that_starts_without_the_registry_waits_for_it(
    own_topic: OwnTopic, registry: str, forwarder: Forwarder, reliability: Faults
) -> None:
    url = through(forwarder, registry)
    own_topic.produce(SOME)
    with draining(own_topic, settings_of(own_topic, url)) as drain:
        noticed_s = drain.until_it_says(f"the schema registry at {url} could not look up schema")
        assert own_topic.origins("bronze").total() == 0
        forwarder.open()
        recovered_s = drain.until_all_stands()
    found = compare(own_topic)
    fault = "registry gone when a drain starts"
    times = {"noticed_s": noticed_s, "recovered_s": recovered_s}
    reliability.record(fault, **times, compared=found.compared, lost=found.lost, doubled=found.doubled)
    own_topic.assert_everything_stands_once()


@pytest.mark.parametrize("silent", [False, pytest.param(True, marks=pytest.mark.soak)], ids=["refuses", "is silent"])
def test_a_registry_that_goes_before_a_new_schema_is_waited_for(
    own_topic: OwnTopic,
    registry: str,
    forwarder: Forwarder,
    *,
    reliability: Faults,
    silent: bool,
) -> None:
    url = through(forwarder, registry)
    forwarder.open()
    own_topic.produce(SOME)
    with draining(own_topic, settings_of(own_topic, url)) as drain:
        drain.until_all_stands()
        if silent:
            forwarder.open(silent=True)
        else:
            forwarder.close()
        own_topic.produce(SOME, seed=1)  # of a schema that the drain knows: nothing is amiss
        drain.until_all_stands()
        with Registry(registry) as client:
            own_topic.schema_id = client.register(topics.subject(own_topic.topic_name), an_evolved_schema())
        own_topic.produce(SOME, seed=2, kinds=("bad",))
        noticed_s = drain.until_it_says(f"the schema registry at {url} could not look up schema {own_topic.schema_id}")
        forwarder.open()
        recovered_s = drain.until_all_stands()
    found = compare(own_topic)
    fault = f"registry {'silent' if silent else 'gone'} when a new schema comes"
    times = {"noticed_s": noticed_s, "recovered_s": recovered_s}
    reliability.record(fault, **times, compared=found.compared, lost=found.lost, doubled=found.doubled)
    own_topic.assert_everything_stands_once()
