"""Another program holds SQLite's write lock for longer than anybody waits for it: said, waited for, made good."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.assets.own_topic import OwnTopic
from tests.reliability.beside import compare, draining, settings_of
from tests.reliability.measured import Faults
from tests.reliability.waiting import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.reliability("surroundings")]

SOME = 300


@pytest.fixture
def own_topic(broker: str, registry: str, tmp_path: Path) -> OwnTopic:
    return OwnTopic(broker, registry, tmp_path / "home")


@contextmanager
def locked(own_topic: OwnTopic) -> Iterator[None]:
    """Hold the write lock of the catalog, as a long transaction of another program does."""
    with closing(sqlite3.connect(own_topic.home / "catalog.db", isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


def test_a_locked_catalog_is_said_and_waited_for(own_topic: OwnTopic, reliability: Faults, soak: bool) -> None:
    quick = f"sqlite:///{own_topic.home / 'catalog.db'}?timeout=1"
    settings = settings_of(own_topic, catalog_uri=None if soak else quick)  # None: 30 s, as users have it
    with draining(own_topic, settings) as drain:
        for round_ in range(3):
            own_topic.produce(SOME, seed=round_)
            drain.until_all_stands()
            with locked(own_topic):
                own_topic.produce(SOME, seed=10 + round_)
                noticed_s = drain.until_it_says("waiting", "catalog.db is locked (database is locked)")
            recovered_s = drain.until_all_stands()
            wait_until(lambda: drain.said() == "waiting: ", drain.said)
            found = compare(own_topic)
            times = {"noticed_s": noticed_s, "recovered_s": recovered_s}
            counts = {"compared": found.compared, "lost": found.lost, "doubled": found.doubled}
            reliability.record("catalog locked under a drain", **times, **counts)
    own_topic.assert_everything_stands_once()


def test_a_commit_that_waits_for_the_lock_is_said_before_it_gives_up(own_topic: OwnTopic) -> None:
    with draining(own_topic) as drain:
        own_topic.produce(SOME)
        drain.until_all_stands()
        with locked(own_topic):
            own_topic.produce(SOME, seed=1)
            drain.until_it_says("a commit has been under way for", "another program may hold the catalog")
        drain.until_all_stands()
        wait_until(lambda: drain.said() == "waiting: ", drain.said)
    own_topic.assert_everything_stands_once()


def test_a_drain_that_starts_on_a_locked_catalog_without_tables_waits(
    broker: str, registry: str, tmp_path: Path
) -> None:
    own_topic = OwnTopic(broker, registry, tmp_path / "home")
    own_topic.produce(SOME)
    for spec in own_topic.layers.specs.values():
        own_topic.catalog.drop_table((own_topic.namespace, spec.name))
    settings = settings_of(own_topic, catalog_uri=f"sqlite:///{own_topic.home / 'catalog.db'}?timeout=1")
    with locked(own_topic), draining(own_topic, settings) as drain:
        drain.until_it_says("waiting", "catalog.db is locked")
    assert drain.failed == []
