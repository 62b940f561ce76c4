"""Another program holds SQLite's write lock for longer than anybody waits for it: said, waited for, made good."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.assets.rooms import Room
from tests.reliability.beside import compare, draining, settings_of
from tests.reliability.measured import Faults
from tests.reliability.waiting import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.reliability("surroundings")]

SOME = 300


@pytest.fixture
def room(broker: str, registry: str, tmp_path: Path) -> Room:
    return Room(broker, registry, tmp_path / "home")


@contextmanager
def locked(room: Room) -> Iterator[None]:
    """Hold the write lock of the catalog, as a long transaction of another program does."""
    with closing(sqlite3.connect(room.home / "catalog.db", isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


def test_a_locked_catalog_is_said_and_waited_for(room: Room, reliability: Faults, soak: bool) -> None:
    quick = f"sqlite:///{room.home / 'catalog.db'}?timeout=1"
    settings = settings_of(room, catalog_uri=None if soak else quick)  # None: 30 s, as users have it
    with draining(room, settings) as drain:
        for round_ in range(3):
            room.produce(SOME, seed=round_)
            drain.until_all_stands()
            with locked(room):
                room.produce(SOME, seed=10 + round_)
                noticed_s = drain.until_it_says("waiting", "catalog.db is locked (database is locked)")
            recovered_s = drain.until_all_stands()
            wait_until(lambda: drain.said() == "waiting: ", drain.said)
            found = compare(room)
            times = {"noticed_s": noticed_s, "recovered_s": recovered_s}
            counts = {"compared": found.compared, "lost": found.lost, "doubled": found.doubled}
            reliability.record("catalog locked under a drain", **times, **counts)
    room.assert_everything_stands_once()


def test_a_commit_that_waits_for_the_lock_is_said_before_it_gives_up(room: Room) -> None:
    with draining(room) as drain:
        room.produce(SOME)
        drain.until_all_stands()
        with locked(room):
            room.produce(SOME, seed=1)
            drain.until_it_says("a commit has been under way for", "another program may hold the catalog")
        drain.until_all_stands()
        wait_until(lambda: drain.said() == "waiting: ", drain.said)
    room.assert_everything_stands_once()


def test_a_drain_that_starts_on_a_locked_catalog_without_tables_waits(
    broker: str, registry: str, tmp_path: Path
) -> None:
    room = Room(broker, registry, tmp_path / "home")
    room.produce(SOME)
    for spec in room.layers.specs.values():
        room.catalog.drop_table((room.namespace, spec.name))
    settings = settings_of(room, catalog_uri=f"sqlite:///{room.home / 'catalog.db'}?timeout=1")
    with locked(room), draining(room, settings) as drain:
        drain.until_it_says("waiting", "catalog.db is locked")
    assert drain.failed == []
