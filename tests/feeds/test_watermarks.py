"""What a feed knows after another process has fed the same venue, on a real broker."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from k2_core.settings import Kafka, Registry, Settings
from k2_core.venues.venue_protocol import Venue
from k2_feeds.feed import Feed
from k2_feeds.kafka.provision import Provisioned, Stopped, provision
from k2_feeds.kafka.publisher import Publisher
from k2_feeds.stream import FeedStream
from k2_feeds.trade_ids.watermarks import Watermarks
from tests.feeds.feed_fixtures import DATA, URL, a_fed_venue, a_trade_frame, events_of
from tests.reliability.waiting import wait_until

pytestmark = pytest.mark.integration
GRACE_S = 0.1
Begin = Callable[[], Feed]


@pytest.fixture
def venue() -> Venue:
    return a_fed_venue()


@pytest.fixture
def settings(broker: str, registry: str, tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, kafka=Kafka(bootstrap_servers=broker), registry=Registry(url=registry))


@pytest.fixture
def watermarks(settings: Settings, venue: Venue, provisioned: Provisioned) -> Watermarks:
    return Watermarks(settings, venue, URL, provisioned)


@pytest.fixture
def provisioned(settings: Settings, venue: Venue) -> Provisioned:
    return provision(settings, venue, DATA, lambda _: None, threading.Event())


@pytest.fixture
def begin(broker: str, venue: Venue, provisioned: Provisioned, watermarks: Watermarks) -> Begin:
    """Begin a feed as a process does that has not recalled anything yet."""

    def feed() -> Feed:
        return Feed(venue, provisioned, Publisher(broker), watermarks=watermarks, grace_s=GRACE_S)

    return feed


def recalled(feed: Feed) -> FeedStream:
    feed.recall(threading.Event())
    return feed.open("one")


def give(stream: FeedStream, *ids: int, symbol: str = "BTCUSDT") -> None:
    for each in ids:
        stream.take(1_700_000_000_000_000_000 + each, a_trade_frame(each, symbol))


def tend(feed: Feed, until: Callable[[], object]) -> None:
    def done() -> object:
        feed.tend()
        return until()

    wait_until(done, lambda: (feed.publisher.unacknowledged, feed.gaps.state()), every_s=0.02)


def killed(feed: Feed) -> None:
    """Leave a feed as SIGKILL does once Kafka has all that it handed over: it writes nothing and tells nothing."""
    assert feed.publisher.flush(30) == 0


def missing(broker: str, venue: Venue) -> list[int]:
    gaps = [event["details"] for event in events_of(broker, venue.VENUE) if event["kind"] == "gap"]
    return [each for gap in gaps for each in range(int(gap["first_missing"]), int(gap["last_missing"]) + 1)]


def knows(watermarks: Watermarks, expected: int) -> bool:
    remembered = watermarks.read()
    return remembered is not None and remembered.symbols["BTCUSDT"].expected == expected


def test_what_came_before_a_kill_is_known_and_what_was_lost_in_it_is_a_gap(
    broker: str, venue: Venue, begin: Begin, watermarks: Watermarks
) -> None:
    first = begin()
    give(stream := recalled(first), *range(100))
    tend(first, lambda: knows(watermarks, 100))
    give(stream, *range(100, 150))
    killed(first)
    assert knows(watermarks, 100)

    second = begin()
    give(recalled(second), *range(160, 170))

    assert second.finish(30) == 0
    assert missing(broker, venue) == list(range(150, 160))
    assert knows(watermarks, 170)


def test_without_a_file_kafka_alone_tells_what_came(
    broker: str, venue: Venue, begin: Begin, watermarks: Watermarks
) -> None:
    first = begin()
    give(recalled(first), *range(100), *range(5, 9))
    killed(first)
    assert watermarks.read() is None

    second = begin()
    give(recalled(second), *range(90, 110), 112)

    assert second.finish(30) == 0
    assert missing(broker, venue) == [110, 111]
    assert second.gaps.duplicates == 10


def test_with_an_empty_kafka_nothing_is_known(broker: str, venue: Venue, begin: Begin) -> None:
    feed = begin()
    give(recalled(feed), 5_000)

    assert feed.finish(30) == 0
    assert missing(broker, venue) == []


def test_a_gap_that_was_reported_before_a_kill_is_not_reported_again(
    broker: str, venue: Venue, begin: Begin, watermarks: Watermarks
) -> None:
    first = begin()
    give(stream := recalled(first), *range(10))
    tend(first, lambda: knows(watermarks, 10))
    before = watermarks.path.read_bytes()
    give(stream, *range(15, 20))
    tend(first, lambda: first.gaps_found.total() == 1)
    killed(first)
    watermarks.path.write_bytes(before)  # as if the kill had come before the file was written again

    second = begin()
    give(recalled(second), *range(20, 25), 27)

    assert second.finish(30) == 0
    assert missing(broker, venue) == [10, 11, 12, 13, 14, 25, 26]


def test_a_hole_that_was_open_at_a_kill_is_reported_by_the_next_process_unless_it_is_filled(
    broker: str, venue: Venue, begin: Begin
) -> None:
    first = begin()
    give(recalled(first), 1, 2, 7)
    killed(first)

    second = begin()
    give(recalled(second), 4, 5, 8)

    assert second.finish(30) == 0
    assert missing(broker, venue) == [3, 6]
    assert second.gaps.out_of_order == 2


def test_a_successor_judges_the_seam_only_when_its_predecessor_is_gone(
    broker: str, venue: Venue, begin: Begin, watermarks: Watermarks
) -> None:
    predecessor, successor = begin(), begin()
    give(old := recalled(predecessor), *range(100))
    tend(predecessor, lambda: knows(watermarks, 100))
    give(new := successor.open("two"), 103, 104, 108)
    give(new, 7, symbol="ETHUSDT")
    for _ in range(10):
        successor.tend()
    assert successor.gaps_found.total() == 0
    give(old, 100, 101, 104, 105)
    assert predecessor.finish(30, handover=True) == 0
    assert predecessor.gaps_found.total() == 0

    successor.recall(threading.Event())
    give(new, 109)
    tend(successor, lambda: successor.gaps_found.total() == 2)

    assert successor.finish(30) == 0
    assert missing(broker, venue) == [102, 106, 107]
    assert knows(watermarks, 110)


def test_recall_ends_when_the_process_is_asked_to(begin: Begin) -> None:
    stop = threading.Event()
    stop.set()

    with pytest.raises(Stopped):
        begin().recall(stop)


@pytest.mark.parametrize("content", [b'{"at_ns": 1, "sym', b'{"at_ns":1,"symbols":{"BTC\xff":{}}}'])
def test_a_file_that_cannot_be_read_is_as_none(begin: Begin, watermarks: Watermarks, content: bytes) -> None:
    watermarks.path.parent.mkdir(parents=True)
    watermarks.path.write_bytes(content)

    give(recalled(feed := begin()), 1)

    assert feed.finish(30) == 0
    assert knows(watermarks, 2)


def test_what_another_source_brought_tells_nothing_and_what_this_one_brought_is_known_again(
    broker: str, venue: Venue, settings: Settings, provisioned: Provisioned
) -> None:
    def fed(source: str, *ids: int) -> None:
        feeds = settings.feeds.model_copy(update={"source": source})
        mine = Watermarks(settings.model_copy(update={"feeds": feeds}), venue, URL, provisioned)
        feed = Feed(venue, provisioned, Publisher(broker), watermarks=mine, grace_s=GRACE_S)
        feed.recall(threading.Event())
        stream = feed.open(source or "live")
        stream.note("connect", url=venue.stream_url(URL), **({"source": source} if source else {}))
        give(stream, *ids)
        assert feed.finish(30) == 0

    fed("simulator", *range(5), 7)
    fed("recording a.jsonl", 90_000, 90_001)
    fed("simulator", *range(8, 10))
    fed("recording a.jsonl", 90_005)
    assert missing(broker, venue) == [5, 6, 90_002, 90_003, 90_004]
