"""What the children of the crash suites do until they are killed or done: drain a venue, refine gold."""

import importlib
import os
import signal
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import dagster as dg
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import CommitFailedException, CommitStateUnknownException
from sqlalchemy.exc import OperationalError

from k2_assets.drain.drain_loop import drain
from k2_assets.kafka.topic_reader import KafkaReader
from k2_assets.lake import commits
from k2_assets.lake.lake_resource import Lake
from k2_assets.refine.refine_job import refine_job
from k2_assets.refine.refine_loop import Refine
from k2_assets.topic_tables import drained_tables, frame_tables
from k2_core.lake.tables import GOLD_TABLES, GOLD_TRADES
from k2_core.settings import Settings
from k2_core.topics import raw_topic
from k2_core.trades import BadTrade, VenueTrade
from k2_core.venues import binance
from k2_core.venues.venue_protocol import Venue
from tests.reliability.crashes import READY
from tests.venue_builder import a_venue

_READ_S = "k2_assets.drain.drain_loop:_READ_S"


@dataclass(frozen=True)
class Conditions:
    """What is different in a child from a process of the platform.

    ``constants`` are given as ``module:name``; a child's drain reads for a twentieth of a second at a time.
    """

    constants: Mapping[str, object] = field(default_factory=dict)
    trace: Path | None = None
    lost_answers: "LostAnswers | None" = None

    def arrange(self) -> None:
        for place, value in ({_READ_S: 0.05} | dict(self.constants)).items():
            module, _, name = place.partition(":")
            assert hasattr(importlib.import_module(module), name), place
            setattr(importlib.import_module(module), name, value)
        if self.trace is not None:
            _trace(self.trace)
        if self.lost_answers is not None:
            self.lost_answers.arrange()


def a_venue_of_several(name: str) -> Venue:
    """A venue whose frames may carry several trades, a line each; otherwise Binance's."""

    def parse(payload: bytes) -> list[VenueTrade | BadTrade] | None:
        if b"\n" not in payload:
            return binance.parse(payload)
        return [trade for line in payload.split(b"\n") for trade in binance.parse(line) or []]

    return a_venue(VENUE=name, parse=parse)


def drain_a_venue(settings: Settings, venue: str, conditions: Conditions, until_drained: bool = False) -> None:
    """Drain as a run of the platform does, until SIGTERM; or until Kafka holds nothing beyond silver."""
    conditions.arrange()
    stop, topic = _stop_at_sigterm(), raw_topic("crypto", "trades", venue)
    for lane, _ in drain(Lake(settings), [a_venue_of_several(venue)], f"child {os.getpid()}", stop):
        if until_drained and lane.reader.topic.name == topic and lane.reader.lag(lane.layers.drained) == 0:
            stop.set()


def _make_trades_from(silver: str) -> None:
    """Have gold's trades made from the one table of silver that the lake of a test has."""
    GOLD_TABLES[GOLD_TRADES.name] = replace(GOLD_TRADES, made_from=(silver,))


def refine_gold(settings: Settings, silver: str, conditions: Conditions, until_done: bool = False) -> None:
    """Refine as a run of the platform does, until SIGTERM; or until gold has taken in all of ``silver``."""
    conditions.arrange()
    _make_trades_from(silver)
    refine = Refine(Lake(settings), f"child {os.getpid()}", _stop_at_sigterm())
    for refreshed in refine.steps():
        if until_done and refreshed is None and all(refine.is_caught_up(table) for table in GOLD_TABLES):
            return


def refine_and_report(settings: Settings, silver: str, dagster: str) -> None:
    """Refine as a run of Dagster, which reports to the instance in the folder ``dagster``, until SIGTERM."""
    _make_trades_from(silver)
    print(READY, flush=True)  # noqa: T201  # into the child's log
    with dg.DagsterInstance.local_temp(dagster) as instance:
        run = refine_job(settings).execute_in_process(instance=instance, resources={"lake": Lake(settings)})
        assert run.success


@dataclass(frozen=True)
class LostAnswers:
    """Every second commit to ``table`` takes place and its caller gets an error instead, ``times`` times."""

    table: str
    times: int
    log: Path

    def arrange(self) -> None:
        original, commits_seen = SqlCatalog.commit_table, iter(range(1_000_000))

        def commit_table(catalog: SqlCatalog, table: Any, requirements: Any, updates: Any) -> Any:
            answer = original(catalog, table, requirements, updates)
            if table.name()[-1] == self.table and next(commits_seen) % 2 and self.injected() < self.times:
                raise self._note()
            return answer

        SqlCatalog.commit_table = commit_table  # type: ignore[method-assign]

    def injected(self) -> int:
        return len(self.log.read_text().splitlines()) if self.log.exists() else 0

    def _note(self) -> Exception:
        errors: list[Exception] = [
            CommitStateUnknownException("the answer was lost"),
            OperationalError("UPDATE iceberg_tables", {}, ConnectionResetError("the answer was lost")),
            OSError("the answer was lost"),
            CommitFailedException("a retried request found its own commit"),
        ]
        error = errors[self.injected() % len(errors)]
        with self.log.open("a") as log:
            log.write(f"{type(error).__name__}\n")
        return error


def _stop_at_sigterm() -> threading.Event:
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    print(READY, flush=True)  # noqa: T201  # into the child's log
    return stop


def _trace(path: Path) -> None:
    """Write down where each thread is, so that one can see afterwards what a kill interrupted."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def note(where: str) -> None:
        os.write(descriptor, f"{threading.current_thread().name} {where}\n".encode())

    reach, read = commits.reach, KafkaReader.read

    def reach_and_note(point: str) -> None:
        note(point)
        reach(point)

    def read_and_note(reader: KafkaReader, timeout_s: float) -> Any:
        note("reading")
        messages = read(reader, timeout_s)
        note("read")
        return messages

    commits.reach = drained_tables.reach = frame_tables.reach = reach_and_note  # type: ignore[attr-defined]
    KafkaReader.read = read_and_note  # type: ignore[method-assign]
