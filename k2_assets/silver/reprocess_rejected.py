"""Accept rows that were rejected as from the future only because the feed's clock was behind."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

import polars as pl
from pyiceberg.catalog import Catalog
from pyiceberg.expressions import And, EqualTo
from pyiceberg.table import Table

from k2_assets.decode.clock_behind import Span, spans_of, with_span
from k2_assets.kafka.schema_lookup import SchemaLookup
from k2_assets.lake.commits import Change, arrow_schema, commit_derived
from k2_assets.lake.row_filters import time_between
from k2_assets.lake.source_files import as_frame
from k2_assets.silver.rebuild_day import Outcome, rebuild_day
from k2_assets.topic_tables.row_differences import FRAME
from k2_core import clock, topics
from k2_core.lake import tables
from k2_core.venues.routing import Data
from k2_core.venues.venue_protocol import Venue

_REASON: Final = "timestamp_in_future"
_equal: Final[Any] = EqualTo


@dataclass(frozen=True)
class Found:
    """Rows rejected as from the future whose times have come since: how many, of how many frames, and their days."""

    rows: int
    frames: int
    days: tuple[date, ...]


class Reprocess:
    """Rejected rows of one venue's trades or quotes, of frames that were received in one span.

    Args:
        catalog: of the lake.
        namespace: of its tables.
        venue: whose frames they are.
        data: trades or quotes.
        span: the frames, and up to when their times may be.
    """

    def __init__(self, catalog: Catalog, namespace: str, venue: Venue, data: Data, span: Span) -> None:
        self._catalog = catalog
        self._namespace = namespace
        self._venue = venue
        self._data: Data = data
        self._span = span

    def find(self) -> Found:
        """Return what :meth:`run` would judge again; writes nothing."""
        # Bronze holds the times of a frame's rows, rejected ones too. A frame counts when its earliest time has come by
        # the right clock; whether each of its rows is accepted is up to the rebuild.
        received = time_between("ingestion_timestamp", self._span.first_us, self._span.end_us)
        topic = topics.raw_topic(self._venue.ASSET_CLASS, self._data, self._venue.VENUE)
        where = And(received, And(_equal("reason", _REASON), _equal("kafka_topic", topic)))
        rejected = self._load(tables.silver_rejected(self._venue.VENUE).name)
        rows = as_frame(rejected.scan(where, selected_fields=FRAME).to_arrow())
        bronze = self._load(tables.bronze(self._venue.VENUE, self._data).name)
        columns = (*FRAME, "min_event_ts", "max_event_ts")
        frames = as_frame(bronze.scan(received, selected_fields=columns).to_arrow()).join(rows, on=FRAME, how="semi")
        reached = frames.filter(pl.col("min_event_ts").dt.epoch("us") <= self._span.until_us)
        days = pl.concat([reached["min_event_ts"], reached["max_event_ts"]]).dt.date().unique()
        last = clock.from_us(self._span.until_us).date()
        counted = rows.join(reached, on=FRAME, how="semi").height
        return Found(counted, reached.height, tuple(sorted(day for day in days if day <= last)))

    def run(self, days: tuple[date, ...], schemas: SchemaLookup) -> Iterator[tuple[date, Outcome]]:
        """Record that the clock was behind, and rebuild the days; may be repeated, and end anywhere.

        Raises:
            LockBusy: maintenance or a rebuild works on the table's files.
            RegistryError: a schema had to be looked up and could not.
        """
        spec = tables.silver(self._venue.VENUE, self._data)
        commit_derived(
            lambda: self._load(spec.name),
            lambda table: Change(arrow_schema(spec).empty_table(), None, with_span(spans_of(table), self._span)),
        )
        for day in days:
            yield day, rebuild_day(self._catalog, self._namespace, self._venue, day, schemas, data=self._data)

    def _load(self, name: str) -> Table:
        return self._catalog.load_table((self._namespace, name))
