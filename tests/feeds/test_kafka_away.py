"""Kafka stops answering, or is killed, under a feed: what is in Kafka afterwards and what is reported as missing."""

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator

import pytest

from k2_core.raw_frame import decode
from k2_core.settings import Kafka, Ports, Registry, Settings
from k2_core.venues.venue_protocol import Venue
from k2_feeds.feed import Feed
from k2_feeds.kafka.provision import Provisioned, provision
from k2_feeds.kafka.publisher import Publisher
from k2_feeds.trade_ids.watermarks import Watermarks
from tests.feeds.feed_fixtures import DATA, URL, a_fed_venue, a_trade_frame, events_of, stored
from tests.reliability.own_broker import OwnBroker, an_own_broker

pytestmark = pytest.mark.integration
WITHIN_S = 240
X = "BTCUSDT"


@pytest.fixture(scope="module")
def own(
    tmp_path_factory: pytest.TempPathFactory, free_ports: Callable[[], Ports], registry: str
) -> Iterator[OwnBroker]:
    ports, home = free_ports(), tmp_path_factory.mktemp("own")
    kafka = Kafka(bootstrap_servers=f"127.0.0.1:{ports.kafka}")
    with an_own_broker(Settings(home=home, ports=ports, kafka=kafka, registry=Registry(url=registry))) as broker:
        yield broker


class Fed:
    """A feed whose source sends one id after the other, as fast as it is let."""

    def __init__(self, settings: Settings, venue: Venue, *, away_after_s: float = 1.0) -> None:
        self.broker, self.venue = settings.bootstrap_servers, venue
        self.provisioned: Provisioned = provision(settings, venue, DATA, lambda _: None, threading.Event())
        self.publisher = Publisher(self.broker, buffer_mb=1, away_after_s=away_after_s)
        self.watermarks = Watermarks(settings, venue, URL, self.provisioned)
        self.feed = Feed(venue, self.provisioned, self.publisher, watermarks=self.watermarks, grace_s=0.2)
        self.feed.recall(threading.Event())
        self.stream = self.feed.open("one")
        self.next_id = 0

    async def send(self, count: int) -> None:
        async with asyncio.timeout(WITHIN_S):
            for _ in range(count):
                self.stream.take(1_700_000_000_000_000_000 + self.next_id, a_trade_frame(self.next_id))
                self.next_id += 1
                if self.feed.full:
                    await self.feed.wait_until_accepted()

    async def tend(self, until: Callable[[], object]) -> None:
        async with asyncio.timeout(WITHIN_S):
            while not until():
                self.feed.tend()
                await asyncio.sleep(0.02)

    def in_kafka(self) -> list[int]:
        values = stored(self.broker, self.provisioned.trades_topic)
        return [run[1] for each in values for run in self.venue.route(decode(each.value).payload).runs]

    def reported_missing(self) -> list[int]:
        gaps = [event["details"] for event in events_of(self.broker, self.venue.VENUE) if event["kind"] == "gap"]
        return [each for gap in gaps for each in range(int(gap["first_missing"]), int(gap["last_missing"]) + 1)]

    def known_until(self) -> int:
        """The id after the last that the file tells of."""
        remembered = self.watermarks.read()
        return remembered.symbols[X].expected if remembered and X in remembered.symbols else 0


async def until_reported(fed: Fed) -> None:
    """Send one more frame, and wait until all that is missing was reported and everything acknowledged."""
    await fed.send(1)
    holes = fed.feed.gaps.state
    await fed.tend(
        lambda: all(h.reported for s in holes().values() for h in s.holes) and not fed.publisher.unacknowledged
    )


async def test_a_feed_goes_on_while_kafka_stands_still_and_tells_exactly_what_it_dropped(own: OwnBroker) -> None:
    fed = Fed(own.settings, a_fed_venue())
    await fed.send(500)
    await fed.tend(lambda: fed.known_until() == 500)
    assert own.process is not None
    own.process.send_signal(signal.SIGSTOP)
    try:
        fed.feed.note("silence", text="an event of the time when Kafka was away")
        await fed.send(40_000)
        await fed.tend(lambda: fed.publisher.away)
        assert fed.feed.drops.total > 10_000
        assert fed.known_until() == 500
    finally:
        own.process.send_signal(signal.SIGCONT)
    await fed.tend(lambda: not fed.publisher.away)
    await until_reported(fed)
    assert fed.feed.finish(30) == 0

    kafka, missing = fed.in_kafka(), fed.reported_missing()
    assert kafka == sorted(kafka)
    assert sorted(kafka + missing) == list(range(40_501))
    assert len(missing) == fed.feed.drops.total
    events = events_of(fed.broker, fed.venue.VENUE)
    assert [event["kind"] for event in events] == ["silence", "dropped", "gap"]
    assert events[1]["details"]["frames"] == str(len(missing))
    assert "Kafka acknowledged nothing" in events[1]["details"]["reason"]
    assert events[2]["details"]["reason"] == f"dropped: {events[1]['details']['reason']}"
    assert fed.known_until() == 40_501


async def test_a_broker_that_is_killed_and_comes_back_costs_only_what_is_reported(own: OwnBroker) -> None:
    fed = Fed(own.settings, a_fed_venue())
    await fed.send(3_000)
    own.kill()
    await fed.send(20_000)
    own.start()
    await fed.tend(lambda: not fed.publisher.away)
    await until_reported(fed)
    assert fed.feed.finish(30) == 0

    kafka, missing = fed.in_kafka(), fed.reported_missing()
    assert sorted(kafka + missing) == list(range(23_001))
    assert len(missing) == fed.feed.drops.total > 0
    assert fed.known_until() == 23_001


async def test_a_kafka_that_is_only_slower_than_the_source_is_waited_for(own: OwnBroker) -> None:
    # On a busy machine a broker may answer nothing for a second.
    fed = Fed(own.settings, a_fed_venue(), away_after_s=WITHIN_S)
    await fed.send(50_000)
    assert fed.feed.finish(60) == 0

    assert fed.in_kafka() == list(range(50_000))
    assert fed.feed.drops.total == 0
    assert events_of(fed.broker, fed.venue.VENUE) == []


async def test_a_short_absence_that_the_buffer_holds_costs_nothing(own: OwnBroker) -> None:
    fed = Fed(own.settings, a_fed_venue())
    await fed.send(500)
    assert own.process is not None
    own.process.send_signal(signal.SIGSTOP)
    await fed.send(1_000)
    await asyncio.sleep(2)
    await fed.send(500)
    own.process.send_signal(signal.SIGCONT)
    await until_reported(fed)

    assert fed.in_kafka() == list(range(2_001))
    assert fed.reported_missing() == []
    await fed.tend(lambda: fed.known_until() == 2_001)
