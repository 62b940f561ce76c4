"""Rebuild an event day of silver from bronze, with the current parser, beside a drain that goes on appending.

A rebuild compares and replaces the rows of frames: a frame's rows in silver and in rejected, of whichever day, are what
the parser makes of it. Where nothing differs, nothing is committed.
"""

from dataclasses import dataclass
from datetime import date
from typing import Final

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.catalog import Catalog
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from k2_assets.decode.frames_to_rows import Refined
from k2_assets.kafka.schema_lookup import SchemaLookup
from k2_assets.lake.commits import Change, arrow_schema, commit_derived
from k2_assets.lake.rebuilt_days import Taken, marked
from k2_assets.lake.rewrites import replace_files
from k2_assets.lake.source_files import live_files, read_files
from k2_assets.lake.table_lock import lock
from k2_assets.reference.epoch_register import drains_know, epochs_table
from k2_assets.silver.existing_rows import ExistingRows, Judged
from k2_assets.topic_tables.drained_tables import Rows
from k2_assets.topic_tables.faulty_messages import attempt
from k2_assets.topic_tables.frame_tables import Layers, made
from k2_assets.topic_tables.frames_of_day import frames_at, frames_of_day, origins
from k2_assets.topic_tables.row_differences import FRAME
from k2_core.errors import DoubledRows
from k2_core.lake.removed_days import require_kept
from k2_core.lake.tables import derived_from
from k2_core.leases import Lease
from k2_core.offsets import Offsets
from k2_core.venues.routing import Data
from k2_core.venues.venue_protocol import Venue

_LOCK_WAIT_S: Final = 900.0


@dataclass(frozen=True)
class Outcome:
    """What a rebuild did, for its operator; rows of rejected count those that went and those that came."""

    frames_read: int
    rows_written: int
    rows_replaced: int
    rejected_written: int
    rejected_replaced: int
    days_changed: tuple[date, ...]
    frames_without_bronze: int


def rebuild_day(
    catalog: Catalog, namespace: str, venue: Venue, day: date, schemas: SchemaLookup, *, data: Data = "trades"
) -> Outcome:
    """Make ``day`` of a venue's silver what its parser makes of bronze now.

    Rows whose frame bronze does not hold any more stay as they are.

    Args:
        catalog: of the lake.
        namespace: of its tables.
        venue: whose day it is.
        day: UTC.
        schemas: to find again why an envelope could not be decoded.
        data: trades or quotes.

    Raises:
        DoubledRows: bronze holds a message twice.
        LockBusy: maintenance or another rebuild works on the table's files.
        RemovedByRetention: frames that may belong to the day are gone from bronze.
        RegistryError: a schema had to be looked up and could not.
    """
    layers = Layers(catalog, namespace, venue, data)
    with (
        lock(catalog, f"files:{layers.specs['silver'].name}", _LOCK_WAIT_S) as of_silver,
        lock(catalog, f"files:{layers.specs['rejected'].name}", _LOCK_WAIT_S) as of_rejected,
    ):
        return _Rebuild(catalog, namespace, layers, day, schemas).run(of_silver, of_rejected)


class _Rebuild:
    def __init__(self, catalog: Catalog, namespace: str, layers: Layers, day: date, schemas: SchemaLookup) -> None:
        self._catalog = catalog
        self._namespace = namespace
        self._layers = layers
        self._day = day
        self._schemas = schemas
        silver, rejected = layers.specs["silver"], layers.specs["rejected"]
        # Silver is loaded first: what lies below its vector is then in the other tables too, as they are loaded.
        self._silver = ExistingRows(self._load(silver.name), silver.partition_by)
        self._rejected = ExistingRows(self._load(rejected.name), rejected.partition_by)
        # Loaded before the frames are parsed by it, so that the rows have the epochs of the day. A drain that does not
        # know them yet may still append rows with other ids: then the mark stays for a later rebuild.
        epochs = epochs_table(catalog, namespace) if layers.data == "trades" else None
        self._epochs = epochs if epochs is not None and drains_know(epochs) else None
        self._bronze = self._load(layers.specs["bronze"].name)
        # The frames of a day are received on it, or on any later day.
        what = f"{silver.name} of {day}"
        require_kept(layers.specs["bronze"].name, self._bronze.properties, what, day, date.max)
        self._vector = Offsets.from_properties(self._silver.table.properties)
        rows = read_files(
            self._silver.table,
            live_files(self._silver.table, "timestamp", day=day),
            (*FRAME, "ingestion_timestamp"),
        )
        self._of_day = rows.select(*FRAME, pl.col("ingestion_timestamp").to_physical().alias("ingestion_us")).unique()
        self._read: list[pl.DataFrame] = []

    def run(self, of_silver: Lease, of_rejected: Lease) -> Outcome:
        for rows in frames_of_day(self._bronze, self._day, self._vector):
            self._judge(rows)
        # Frames with rows in the day to which bronze now gives other times, as after a change of the parser.
        others, without_bronze = self._of_day.join(self._frames_read(), on=FRAME, how="anti"), 0
        if not others.is_empty():
            for rows in frames_at(self._bronze, others, self._vector):
                self._judge(rows)
            without_bronze = others.join(self._frames_read(), on=FRAME, how="anti").select(FRAME).n_unique()
        frames = self._frames_read()
        if doubled := frames.height - frames.n_unique():
            msg = (
                f"{self._bronze.name()[-1]} holds {doubled} messages twice, and silver would as well: "
                f"materialize its days, which name them, and mend it first"
            )
            raise DoubledRows(msg)
        # A frame is never in neither table: one that turns bad comes to rejected before it leaves silver, and one that
        # turns good comes to silver before it leaves rejected.
        self._replace(self._rejected, of_rejected, self._rejected.missing, removed=False, remember={})
        added = [*self._silver.missing, *self._silver.changed]
        taken = {} if self._epochs is None else self._taken(self._silver.table)
        if added or self._silver.rows_stale:
            followers = [self._load(name) for name in derived_from(self._silver.table.name()[-1])]
            remember = marked(self._silver.table, self._silver.days, followers) | taken
            self._replace(self._silver, of_silver, added, removed=True, remember=remember)
        elif taken:
            # Nothing differs. The mark of the epochs is taken in all the same: the sensor would ask for ever.
            spec = self._layers.specs["silver"]
            empty = arrow_schema(spec).empty_table()
            commit_derived(lambda: self._load(spec.name), lambda table: Change(empty, None, self._taken(table)))
        self._replace(self._rejected, of_rejected, self._rejected.changed, removed=True, remember={})
        return Outcome(
            sum(each.height for each in self._read),
            self._silver.rows_written,
            self._silver.rows_stale,
            self._rejected.rows_written,
            self._rejected.rows_stale,
            tuple(sorted(self._silver.days)),
            without_bronze,
        )

    def _load(self, name: str) -> Table:
        return self._catalog.load_table((self._namespace, name))

    def _judge(self, rows: pa.Table) -> None:
        """Compare what a piece of bronze becomes with its existing rows."""
        for topic_id in rows["topic_id"].unique():
            of_topic = rows.filter(pc.equal(rows["topic_id"], topic_id)).sort_by(
                [("kafka_partition", "ascending"), ("kafka_offset", "ascending")]
            )
            for part, refined in self._layers.refined_parts(of_topic, self._schemas.of):
                self._judge_part(part, refined)

    def _judge_part(self, bronze: pa.Table, refined: Refined) -> None:
        frames = origins(bronze)
        self._read.append(frames.select(FRAME))
        # If a row of the day gives its frame a wrong time of ingestion, it is looked for at that time as well.
        also_at = self._of_day.join(frames, on=FRAME, how="semi")

        def judged(rows: Rows) -> tuple[Judged, Judged]:
            silver = self._silver.judged(pl.concat([frames, also_at]).unique(), rows.by_layer["silver"])
            return silver, self._rejected.judged(frames, rows.by_layer["rejected"])

        def without_culprits(error: str) -> tuple[Judged, Judged]:
            return judged(
                self._layers.without_culprits(bronze, lambda rows: self._layers.made_of(rows, self._schemas.of), error)
            )

        silver, rejected = attempt(lambda: judged(made(refined)), without_culprits)
        self._silver.take(silver)
        self._rejected.take(rejected)

    def _frames_read(self) -> pl.DataFrame:
        none = pl.DataFrame(schema={"topic_id": pl.String, "kafka_partition": pl.Int32, "kafka_offset": pl.Int64})
        return pl.concat([none, *self._read])

    def _taken(self, silver: Table) -> dict[str, str]:
        """Return the property that takes in the mark of the day in the register of epochs; none when it has none."""
        if self._epochs is None or self._day not in Taken.of(silver).behind(self._epochs):
            return {}
        return Taken.of(silver).with_day(self._epochs, self._day).to_properties()

    def _replace(
        self, existing: ExistingRows, lease: Lease, added: list[DataFile], *, removed: bool, remember: dict[str, str]
    ) -> None:
        gone, carried = existing.without_stale() if removed else ([], [])
        if gone or added:
            replace_files(lambda: self._load(existing.table.name()[-1]), lease, gone, [*added, *carried], remember)
