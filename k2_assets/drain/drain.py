"""The drain's loop: lanes worked in turn, a beat, and waiting out whatever is away. Knows no Dagster."""

import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from confluent_kafka import KafkaException
from pyiceberg.catalog import Catalog
from sqlalchemy.exc import SQLAlchemyError

from k2_assets.drain.beat import READING, WAITING, Heart
from k2_assets.drain.lane import Committed, Lane
from k2_assets.drain.layers import Layers
from k2_assets.drain.schemas import SchemaLookup
from k2_assets.kafka_reader import KafkaReader, describe_topic
from k2_core import clock, topics
from k2_core.catalog import ensure_tables, open_catalog
from k2_core.errors import CommitConflict, K2Error
from k2_core.logs import logger
from k2_core.registry import Registry
from k2_core.settings import Settings
from k2_core.tables import all_tables
from k2_core.venues import VENUES

log = logger(__name__)

_READ_S: Final = 0.25
_RETRY_FIRST_S: Final = 1.0
_RETRY_LAST_S: Final = 30.0
# What goes away by itself: Kafka, registry or catalog not there, a full disk, another writer.
_PASSING: Final = (K2Error, KafkaException, OSError, SQLAlchemyError)


def beat_store(settings: Settings) -> Path:
    """Return where the drain writes its beat."""
    return settings.home / "run" / f"{settings.drain.name}.db"


def drain(settings: Settings, run_id: str, stop: threading.Event) -> Iterator[tuple[Lane, Committed | None]]:
    """Drain until the settings' work time is over or ``stop`` is set; what was read is committed before the end.

    Args:
        settings: of the platform.
        run_id: who drains, for the beat.
        stop: set to end early.

    Yields:
        The lane and what it committed; None with every step, so that the caller can do its own.
    """
    catalog = open_catalog(settings)
    ensure_tables(catalog, settings.catalog.namespace, all_tables(tuple(VENUES)))
    ends_at = clock.monotonic() + settings.drain.work_minutes * 60
    beat = (beat_store(settings), settings.drain.name, run_id, settings.drain.beat_interval_s)
    with Heart(*beat) as heart, Registry(settings.registry_url) as registry:
        worker = _Worker(settings, catalog, registry, heart, stop)
        while clock.monotonic() < ends_at and not stop.is_set():
            yield from worker.work_until(ends_at)


class _Worker:
    """Works all lanes; after a passing fault it waits and begins again from the tables' vectors."""

    def __init__(
        self, settings: Settings, catalog: Catalog, registry: Registry, heart: Heart, stop: threading.Event
    ) -> None:
        self._settings = settings
        self._catalog = catalog
        self._schemas = SchemaLookup(registry)
        self._heart = heart
        self._stop = stop
        self._retry_s = _RETRY_FIRST_S

    def work_until(self, ends_at: float) -> Iterator[tuple[Lane, Committed | None]]:
        lanes: list[Lane] = []
        try:
            lanes = self._open_lanes()
            yield from self._work(lanes, ends_at)
        except CommitConflict as error:
            log.info("another writer was first; going on from the tables", error=str(error))
        except _PASSING as error:
            self._wait_out(error)
        finally:
            for lane in lanes:
                lane.close()

    def _open_lanes(self) -> list[Lane]:
        settings = self._settings
        lanes = []
        for name, venue in VENUES.items():
            self._heart.progress("starting", f"topic of {name}")
            topic = describe_topic(settings.bootstrap_servers, topics.raw_topic(venue.ASSET_CLASS, "trades", name))
            reader = KafkaReader(settings.bootstrap_servers, topic, f"k2-drain-{settings.drain.name}")
            layers = Layers(self._catalog, settings.catalog.namespace, venue)
            lane = Lane(layers, reader, self._schemas, settings.drain.commit_rows, settings.drain.commit_interval_s)
            lanes.append(lane)
            self._heart.progress("catching up", name)
            lane.start()
        return lanes

    def _work(self, lanes: list[Lane], ends_at: float) -> Iterator[tuple[Lane, Committed | None]]:
        while clock.monotonic() < ends_at and not self._stop.is_set():
            for lane in lanes:
                yield from self._told(lane, lane.step(_READ_S / len(lanes)))
        for lane in lanes:
            self._heart.progress("committing", "the last batch of this run")
            yield from self._told(lane, lane.finish())

    def _told(self, lane: Lane, settled: list[Committed]) -> Iterator[tuple[Lane, Committed | None]]:
        if settled:
            self._retry_s = _RETRY_FIRST_S
        stopped = "; ".join(lane.reader.stopped.values())
        self._heart.progress(READING if lane.rows else WAITING, stopped)
        yield lane, None
        yield from ((lane, committed) for committed in settled)

    def _wait_out(self, error: Exception) -> None:
        log.warning("waiting", error=str(error), retry_s=self._retry_s)
        self._heart.progress(WAITING, f"{error}; trying again")
        self._stop.wait(self._retry_s * random.uniform(0.8, 1.2))  # noqa: S311  # jitter, no secret
        self._retry_s = min(self._retry_s * 2, _RETRY_LAST_S)
