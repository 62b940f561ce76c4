"""The drain's loop: the lanes take turns, a heartbeat shows it, and errors that pass are waited out. No Dagster."""

import random
import sqlite3
import threading
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from typing import Final

from confluent_kafka import KafkaException
from sqlalchemy.exc import SQLAlchemyError

from k2_assets.drain.topic_lane import Committed, Lane
from k2_assets.kafka import topic_bounds
from k2_assets.kafka.kafka_topic import NoTopic, Topic, admin_client, describe_topic
from k2_assets.kafka.schema_lookup import SchemaLookup
from k2_assets.kafka.topic_reader import KafkaReader
from k2_assets.kept_runs.heartbeat import READING, WAITING, Heart
from k2_assets.kept_runs.kept_run import kept_drain
from k2_assets.lake.lake_resource import Lake
from k2_assets.orchestration import wait_reasons
from k2_assets.reference.recent_subscriptions import RecentSubscriptions
from k2_assets.topic_tables.drained_tables import DrainedTables
from k2_assets.topic_tables.event_tables import EventLayers
from k2_assets.topic_tables.frame_tables import Layers
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
# What passes by itself: Kafka, registry or catalog away, a full disk, another writer.
_PASSING: Final = (K2Error, KafkaException, OSError, SQLAlchemyError, sqlite3.Error)


def drain(
    lake: Lake, venues: Collection[Venue], run_id: str, stop: threading.Event
) -> Iterator[tuple[Lane, Committed | None]]:
    """Drain until ``stop`` is set; what was read is committed before the end.

    Args:
        lake: that it fills.
        venues: whose topics it reads, beside the feeds' events.
        run_id: who drains, for the heartbeat.
        stop: set to end.

    Yields:
        A lane and what it committed; None after every step, so that the caller can do its own work.
    """
    settings = lake.settings
    with Heart(kept_drain(settings), run_id) as heart, Registry(settings.registry_url) as registry:
        worker = _Worker(lake, venues, registry, heart, stop)
        while not stop.is_set():
            yield from worker.work()


class _Worker:
    """Works all lanes; after an error that passes it waits and begins again from the committed offsets."""

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
        """Open and start a lane for each topic that exists; ``opened`` closes them, also when one could not start."""
        self._lanes, self._absent = [], {}
        recent = RecentSubscriptions(self._settings.bootstrap_servers, self._schemas)
        opened.callback(recent.close)
        self._heart.progress("starting", "the catalog")
        catalog, namespace = self._lake.catalog(), self._lake.namespace
        quiet_s = self._settings.drain.quiet_interval_s
        raw = [
            Layers(catalog, namespace, venue, data, recent=recent.read, quiet_s=quiet_s)
            for venue in self._venues
            for data in DATA
        ]
        tables: list[DrainedTables] = [EventLayers(catalog, namespace), *raw]
        self._queued_mb = max(_QUEUED_MB // len(tables), 1)
        for layers in tables:
            self._heart.progress("starting", f"topic {layers.topic}")
            try:
                topic = describe_topic(self._settings.bootstrap_servers, layers.topic, self._admin)
                self._open_lane(layers, topic, opened)
            except NoTopic as error:
                # What nobody feeds is no trouble; a topic that was drained and no longer exists is.
                self._absent[layers.topic] = layers, str(error) if layers.vector("bronze") else ""
                layers.catch_up(self._schemas, lambda piece: self._heart.progress("catching up", piece))
        self._began_at = clock.monotonic()

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

    def _work(self, opened: ExitStack) -> Iterator[tuple[Lane, Committed | None]]:
        # Events first: a symbol that a feed has subscribed to is then known when its frames are read.
        for lane in self._lanes:
            if isinstance(lane.layers, EventLayers):
                waits_until, waiting = clock.monotonic() + _EVENTS_WAIT_S, lane.reader.lag(lane.layers.drained)
                while lane.read < waiting and not lane.reader.stopped and clock.monotonic() < waits_until:
                    yield from self._reported(lane, lane.step(_READ_S))
                yield from self._reported(lane, lane.finish())
        while not self._stop.is_set():
            for lane in self._lanes:
                lane.reader.watch.look()
                # While some lanes are behind, the others do not wait for messages, and a batch of those behind is full
                # at their share of the rows.
                behind = sum(each.behind for each in self._lanes)
                patient = lane.behind or not behind
                committed = lane.step(_READ_S / len(self._lanes) if patient else 0.0, 1 / max(behind, 1))
                yield from self._reported(lane, committed)
            if not self._lanes:
                self._heart.progress(WAITING, self._absence() or "no topic is there yet: a feed that runs makes them")
                self._stop.wait(_READ_S)
            if clock.monotonic() >= self._look_at:
                self._look_at = clock.monotonic() + _LOOK_S
                self._look_around(opened)
        self._heart.progress("committing", "the last batch of this run")
        # All lanes start their last commit before any waits for its own: the successor is waiting for the lease.
        for last in (Lane.hand_over, Lane.finish):
            for lane in self._lanes:
                yield from self._reported(lane, last(lane))

    def _look_around(self, opened: ExitStack) -> None:
        """Begin again when a stopped partition can go on; open a lane for each topic that exists by now.

        Raises:
            OffsetError: a partition can go on: its loss was accepted, or Kafka has its messages again.
        """
        for lane in self._lanes:
            if not lane.reader.stopped or lane.reader.watch.away:
                continue
            # The offsets are read from the table: a commit of this lane may be under way in its own thread.
            bronze = self._lake.table(lane.layers.specs["bronze"].name)
            vector = Offsets.from_properties(bronze.properties)
            outside = topic_bounds.outside(lane.reader.topic, vector, lane.reader.bounds())
            for partition in lane.reader.stopped.keys() - outside.keys():
                raise OffsetError(f"{lane.reader.topic.name} partition {partition} goes on: Kafka has its next offset")
        for name, (layers, _) in list(self._absent.items()):
            try:
                topic = describe_topic(self._settings.bootstrap_servers, name, self._admin)
            except NoTopic:
                continue
            except TopicError:
                return  # Kafka is away
            log.info("topic found", topic=name)
            del self._absent[name]
            self._open_lane(layers, topic, opened)

    def _reported(self, lane: Lane, settled: list[Committed]) -> Iterator[tuple[Lane, Committed | None]]:
        # An error that was waited out stays in the heartbeat until a commit, or a quiet market, shows that it is over.
        idle = not any(each.rows or each.committing_s for each in self._lanes)
        if settled or (idle and clock.monotonic() - self._began_at > _LOOK_S):
            self._retry_s, self._trouble = _RETRY_FIRST_S, ""
        troubles = [self._trouble, self._absence()]
        for each in self._lanes:
            troubles += [*each.reader.stopped.values(), *each.reader.damaged.values(), each.reader.watch.away]
            if each.commits_slowly and not self._trouble:
                troubles.append(wait_reasons.slow_commit(each.committing_s, self._settings))
        reading = any(each.rows for each in self._lanes)
        distinct = dict.fromkeys(trouble for trouble in troubles if trouble)
        self._heart.progress(READING if reading else WAITING, "; ".join(distinct))
        yield lane, None
        yield from ((lane, committed) for committed in settled)

    def _absence(self) -> str:
        return "; ".join(trouble for _, trouble in self._absent.values() if trouble)

    def _wait_out(self, error: Exception) -> None:
        reason = wait_reasons.sentence(error, self._settings)
        log.warning("waiting", error=reason, retry_s=self._retry_s)
        self._trouble = f"{reason}; trying again"
        self._heart.progress(WAITING, self._trouble)
        self._stop.wait(self._retry_s * random.uniform(0.8, 1.2))  # noqa: S311  # jitter, no secret
        self._retry_s = min(self._retry_s * 2, _RETRY_LAST_S)
