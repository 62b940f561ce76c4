"""The drain's loop: lanes worked in turn, a beat, and waiting out whatever is away. Knows no Dagster."""

import random
import sqlite3
import threading
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from typing import Final

from confluent_kafka import KafkaException
from sqlalchemy.exc import SQLAlchemyError

from k2_assets.drain.topic_lane import Committed, Lane
from k2_assets.kafka.kafka_topic import NoTopic, Topic, admin_client, describe_topic
from k2_assets.kafka.schema_lookup import SchemaLookup
from k2_assets.kafka.topic_reader import KafkaReader
from k2_assets.kept_runs.heartbeat import READING, WAITING, Heart
from k2_assets.kept_runs.kept_run import kept_drain
from k2_assets.lake.lake_resource import Lake
from k2_assets.orchestration import wait_reasons
from k2_assets.reference.recent_subscriptions import RecentSubscriptions
from k2_assets.topic_tables.event_tables import EventLayers
from k2_assets.topic_tables.layers import DrainedTables, Layers
from k2_core import clock
from k2_core.errors import CommitConflict, K2Error, OffsetError, TopicError
from k2_core.lake.tables import DATA
from k2_core.logs import logger
from k2_core.offsets import Offsets
from k2_core.registry import Registry
from k2_core.venues.venue_protocol import Venue

log = logger(__name__)

_READ_S: Final = 0.25
_RETRY_FIRST_S: Final = 1.0
_RETRY_LAST_S: Final = 10.0
_LOOK_S: Final = 5.0
_EVENTS_WAIT_S: Final = 10.0
_EVENTS_COMMIT_S: Final = 1.0
_PHASE_OF_QUOTES: Final = 0.5  # not at the same time as trades: a commit is work for the processor
_QUEUED_MB: Final = 384  # fetched ahead by the clients of all lanes together
# What goes away by itself: Kafka, registry or catalog not there, a full disk, another writer.
_PASSING: Final = (K2Error, KafkaException, OSError, SQLAlchemyError, sqlite3.Error)


def drain(
    lake: Lake, venues: Collection[Venue], run_id: str, stop: threading.Event
) -> Iterator[tuple[Lane, Committed | None]]:
    """Drain until ``stop`` is set; what was read is committed before the end.

    Args:
        lake: that it fills.
        venues: whose topics it reads, beside the feeds' events.
        run_id: who drains, for the beat.
        stop: set to end.

    Yields:
        The lane and what it committed; None with every step, so that the caller can do its own.
    """
    settings = lake.settings
    with Heart(kept_drain(settings), run_id) as heart, Registry(settings.registry_url) as registry:
        worker = _Worker(lake, venues, registry, heart, stop)
        while not stop.is_set():
            yield from worker.work()


class _Worker:
    """Works all lanes; after a passing fault it waits and begins again from the tables' vectors."""

    def __init__(
        self, lake: Lake, venues: Collection[Venue], registry: Registry, heart: Heart, stop: threading.Event
    ) -> None:
        self._lake, self._venues = lake, venues
        self._settings = settings = lake.settings
        self._schemas = SchemaLookup(registry)
        self._absent: dict[str, tuple[DrainedTables, str]] = {}
        self._queued_mb = _QUEUED_MB
        self._heart = heart
        self._stop = stop
        self._admin = admin_client(settings.bootstrap_servers)
        self._lanes: list[Lane] = []
        self._retry_s = _RETRY_FIRST_S
        self._look_at = 0.0
        self._trouble = ""
        self._began_at = 0.0

    def work(self) -> Iterator[tuple[Lane, Committed | None]]:
        with ExitStack() as opened:
            try:
                self._open_lanes(opened)
                yield from self._work(opened)
            except OffsetError as error:
                log.info("beginning again", reason=str(error))
            except CommitConflict as error:
                log.info("another writer was first; going on from the tables", error=str(error))
            except _PASSING as error:
                self._wait_out(error)

    def _open_lanes(self, opened: ExitStack) -> None:
        """Open and start a lane for each topic that is there; ``opened`` closes them, also when one could not start."""
        self._lanes, self._absent = [], {}
        recent = RecentSubscriptions(self._settings.bootstrap_servers, self._schemas)
        opened.callback(recent.close)
        sources = self._sources(recent)
        self._queued_mb = max(_QUEUED_MB // len(sources), 1)
        for layers in sources:
            self._heart.progress("starting", f"topic {layers.topic}")
            try:
                self._open_lane(layers, self._described(layers.topic), opened)
            except NoTopic as error:
                # What nobody feeds is no trouble; a topic that was drained and is gone is.
                self._absent[layers.topic] = layers, str(error) if layers.vector("bronze") else ""
                layers.catch_up(self._schemas, lambda piece: self._heart.progress("catching up", piece))
        self._began_at = clock.monotonic()

    def _sources(self, recent: RecentSubscriptions) -> list[DrainedTables]:
        """Return the tables of every topic that a feed may make."""
        self._heart.progress("starting", "the catalog")
        catalog, namespace = self._lake.catalog(), self._lake.namespace
        quiet_s = self._settings.drain.quiet_interval_s
        raw = [
            Layers(catalog, namespace, venue, data, recent=recent.read, quiet_s=quiet_s)
            for venue in self._venues
            for data in DATA
        ]
        return [EventLayers(catalog, namespace), *raw]

    def _open_lane(self, layers: DrainedTables, topic: Topic, opened: ExitStack) -> None:
        settings = self._settings
        reader = KafkaReader(
            settings.bootstrap_servers, topic, f"k2-drain-{settings.drain.name}", self._queued_mb, self._admin
        )
        interval_s = settings.drain.commit_interval_s
        if isinstance(layers, EventLayers):
            interval_s = min(interval_s, _EVENTS_COMMIT_S)  # they are few, and say what the frames beside them mean
        quiet_s = settings.drain.quiet_interval_s
        phase = _PHASE_OF_QUOTES if isinstance(layers, Layers) and layers.data == "quotes" else 0.0
        lane = Lane(
            layers, reader, self._schemas, settings.drain.commit_rows, interval_s, quiet_interval_s=quiet_s, phase=phase
        )
        opened.callback(lane.close)
        self._heart.progress("catching up", topic.name)
        lane.start(lambda piece: self._heart.progress("catching up", piece))
        self._lanes.append(lane)

    def _described(self, name: str) -> Topic:
        return describe_topic(self._settings.bootstrap_servers, name, self._admin)

    def _work(self, opened: ExitStack) -> Iterator[tuple[Lane, Committed | None]]:
        for lane in self._lanes:
            if isinstance(lane.layers, EventLayers):
                yield from self._take_in_events(lane)
        while not self._stop.is_set():
            for lane in self._lanes:
                lane.reader.watch.look()
                yield from self._told(lane, self._step(lane))
            if not self._lanes:
                self._heart.progress(WAITING, self._absence() or "no topic is there yet: a feed that runs makes them")
                self._stop.wait(_READ_S)
            self._look_around(opened)
        self._heart.progress("committing", "the last batch of this run")
        for last in (Lane.hand_over, Lane.finish):  # side by side: a successor waits
            for lane in self._lanes:
                yield from self._told(lane, last(lane))

    def _take_in_events(self, lane: Lane) -> Iterator[tuple[Lane, Committed | None]]:
        """Commit the events that Kafka has, before the frames beside them: what feeds subscribed to is no unknown."""
        waits_until, waiting = clock.monotonic() + _EVENTS_WAIT_S, lane.reader.lag(lane.layers.drained)
        while lane.read < waiting and not lane.reader.stopped and clock.monotonic() < waits_until:
            yield from self._told(lane, lane.step(_READ_S))
        yield from self._told(lane, lane.finish())

    def _step(self, lane: Lane) -> list[Committed]:
        """Let a lane read: while some are behind, the others only take what has arrived already."""
        behind = sum(each.behind for each in self._lanes)
        patient = lane.behind or not behind
        return lane.step(_READ_S / len(self._lanes) if patient else 0.0, 1 / max(behind, 1))

    def _look_around(self, opened: ExitStack) -> None:
        """Every few seconds, see whether a stopped partition can go on, and whether a topic has come."""
        if clock.monotonic() < self._look_at:
            return
        self._look_at = clock.monotonic() + _LOOK_S
        self._look_at_stopped()
        for name, (layers, _) in list(self._absent.items()):
            try:
                topic = self._described(name)
            except NoTopic:
                continue
            except TopicError:
                return  # Kafka is away
            log.info("topic found", topic=name)
            del self._absent[name]
            self._open_lane(layers, topic, opened)

    def _look_at_stopped(self) -> None:
        """Begin again when a stopped partition can go on: its loss was accepted, or Kafka has its messages again.

        Raises:
            OffsetError: one can.
        """
        for lane in self._lanes:
            if not lane.reader.stopped or lane.reader.watch.away:
                continue
            outside = lane.reader.outside(self._standing(lane))
            for partition in lane.reader.stopped.keys() - outside.keys():
                raise OffsetError(f"{lane.reader.topic.name} partition {partition} goes on: Kafka has its next offset")

    def _standing(self, lane: Lane) -> Offsets:
        """Return bronze's vector as it stands now; a commit of this lane may be under way in its own thread."""
        name = lane.layers.specs["bronze"].name
        return Offsets.from_properties(self._lake.table(name).properties)

    def _told(self, lane: Lane, settled: list[Committed]) -> Iterator[tuple[Lane, Committed | None]]:
        idle = not any(each.rows or each.committing_s for each in self._lanes)
        if settled or (idle and clock.monotonic() - self._began_at > _LOOK_S):
            self._retry_s, self._trouble = _RETRY_FIRST_S, ""
        reading = any(each.rows for each in self._lanes)
        self._heart.progress(READING if reading else WAITING, "; ".join(self._troubles()))
        yield lane, None
        yield from ((lane, committed) for committed in settled)

    def _troubles(self) -> list[str]:
        """Say what is wrong; what had to be waited out stays until a commit, or quiet, shows that it is over."""
        found = [self._trouble, self._absence()]
        for lane in self._lanes:
            reader = lane.reader
            found += [*reader.stopped.values(), *reader.damaged.values(), reader.watch.away]
            if lane.commits_slowly and not self._trouble:
                found.append(wait_reasons.slow_commit(lane.committing_s, self._settings))
        return list(dict.fromkeys(trouble for trouble in found if trouble))

    def _absence(self) -> str:
        return "; ".join(trouble for _, trouble in self._absent.values() if trouble)

    def _wait_out(self, error: Exception) -> None:
        said = wait_reasons.sentence(error, self._settings)
        log.warning("waiting", error=said, retry_s=self._retry_s)
        self._trouble = f"{said}; trying again"
        self._heart.progress(WAITING, self._trouble)
        self._stop.wait(self._retry_s * random.uniform(0.8, 1.2))  # noqa: S311  # jitter, no secret
        self._retry_s = min(self._retry_s * 2, _RETRY_LAST_S)
