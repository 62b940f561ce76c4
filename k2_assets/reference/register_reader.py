"""Read the register and the subscriptions of a venue from the lake, again when they may have changed."""

from collections.abc import Callable
from typing import Any, Final

import polars as pl
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.expressions import And, BooleanExpression, EqualTo
from pyiceberg.table import Table

from k2_assets.decode.frames_to_rows import Refined
from k2_assets.lake.source_files import as_frame, live_files, read_files
from k2_assets.reference.epoch_register import read_epochs
from k2_assets.reference.symbol_lookup import Register, Version
from k2_core import clock
from k2_core.epochs import NO_EPOCHS
from k2_core.instruments import Instrument
from k2_core.lake.tables import BRONZE_FEED_EVENTS, REFERENCE_EPOCHS, REFERENCE_INSTRUMENTS
from k2_core.venues.venue_protocol import Venue

RELOAD_S: Final = 30.0
"""Far less than the time after which a new version holds: no frame is judged by a register without it."""
_VERSION_COLUMNS: Final = ("venue_symbol", "symbol", "base", "quote", "valid_from", "valid_to")
EVENT_COLUMNS: Final = ("venue", "kind", "symbol", "at_ns")
_equal: Final[Any] = EqualTo


class RegisterReader:
    """The register of one venue, and the epochs of its instruments, kept fresh. Not safe for threads."""

    def __init__(
        self, catalog: Catalog, namespace: str, venue: Venue, recent: Callable[[Table], pl.DataFrame] | None = None
    ) -> None:
        """Read nothing yet.

        Args:
            catalog: of the lake.
            namespace: of its tables.
            venue: whose symbols are looked up.
            recent: returns the subscriptions that came after those in the table of events, by :data:`EVENT_COLUMNS`.
        """
        self.epochs = NO_EPOCHS
        self._epochs_of = ""
        self._recent = recent
        self._catalog = catalog
        self._namespace = namespace
        self._venue = venue
        self._versions: list[Version] = []
        self._versions_of = ""
        self._subscriptions = Subscriptions(venue.VENUE)
        self._register = Register((), {}, venue)
        self._reload_at = 0.0

    def judged(self, refine: Callable[[Register], Refined]) -> Refined:
        """Return what ``refine`` makes of frames by the newest register.

        Raises:
            OSError and the database's errors: the lake cannot be read.
        """
        if clock.monotonic() >= self._reload_at:
            due = clock.monotonic() + RELOAD_S
            table = self._table(REFERENCE_INSTRUMENTS.name)
            location = "" if table is None else table.metadata_location
            if table is not None and location != self._versions_of:
                self._versions = versions(table, self._venue.VENUE)
                self._remember()
            epochs = self._table(REFERENCE_EPOCHS.name)
            epochs_of = "" if epochs is None else epochs.metadata_location
            if epochs_of != self._epochs_of:
                self.epochs = read_epochs(epochs)
            self._versions_of, self._epochs_of, self._reload_at = location, epochs_of, due
        refined = refine(self._register)

        # A symbol is rejected as unknown only after the newest subscriptions were read: a feed may have subscribed to
        # it seconds ago. If they bring something new about one of the symbols, the same frames are refined once more.
        events = self._table(BRONZE_FEED_EVENTS.name) if refined.unknown else None
        if events is None:
            return refined
        before = dict(self._subscriptions.first_ns)
        self._subscriptions.read(events)
        if self._recent is not None:
            self._subscriptions.take(self._recent(events))
        after = self._subscriptions.first_ns
        if all(before.get(symbol) == after.get(symbol) for symbol in refined.unknown):
            return refined
        self._remember()
        return refine(self._register)

    def _remember(self) -> None:
        self._register = Register(self._versions, dict(self._subscriptions.first_ns), self._venue)

    def _table(self, name: str) -> Table | None:
        try:
            return self._catalog.load_table((self._namespace, name))
        except NoSuchTableError:
            return None  # a lake from before there was one


class Subscriptions:
    """When feeds first subscribed to each symbol of a venue."""

    def __init__(self, exchange: str) -> None:
        self.first_ns: dict[str, int] = {}
        self._exchange = exchange
        self._seen: set[str] = set()

    def read(self, events: Table) -> None:
        """Take in the events of files that were not read yet; a file that joins others holds nothing new."""
        files = live_files(events, BRONZE_FEED_EVENTS.partition_by)
        new = [each for each in files if each.path not in self._seen]
        if new:
            where = And(_equal("venue", self._exchange), _equal("kind", "subscribe"))
            self.take(read_files(events, new, EVENT_COLUMNS, where))
        self._seen = {each.path for each in files}

    def take(self, events: pl.DataFrame) -> None:
        """Take in events, of any venue and kind, with :data:`EVENT_COLUMNS`."""
        chosen = events.filter(pl.col("venue") == self._exchange, pl.col("kind") == "subscribe")
        # The settings may spell a symbol in lower case, as some venues' own subscriptions do.
        spelled = pl.concat([chosen, chosen.with_columns(pl.col("symbol").str.to_uppercase())])
        for symbol, at_ns in spelled.group_by("symbol").agg(pl.col("at_ns").min()).iter_rows():
            self.first_ns[symbol] = min(at_ns, self.first_ns.get(symbol, at_ns))


def versions(table: Table, exchange: str) -> list[Version]:
    where: BooleanExpression = _equal("exchange", exchange)
    rows = as_frame(table.scan(where, selected_fields=_VERSION_COLUMNS).to_arrow())
    columns = rows.select(
        *_VERSION_COLUMNS[:4],
        pl.col("valid_from").dt.epoch("ns").alias("from_ns"),
        pl.col("valid_to").dt.epoch("ns").alias("to_ns"),
    )
    return [
        Version(venue_symbol, from_ns, to_ns, Instrument(symbol, base, quote))
        for venue_symbol, symbol, base, quote, from_ns, to_ns in columns.iter_rows()
    ]
