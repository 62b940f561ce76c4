"""Bring the register up to a venue's list: fetch, compare, commit. Knows no Dagster."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.expressions import And, EqualTo, In, IsNull
from pyiceberg.table import Table

from k2_assets.lake.commits import Change, arrow_schema, commit_derived
from k2_assets.reference.fetch_list import fetch
from k2_assets.reference.register_versions import Changes, Row, Source, changes
from k2_core import clock
from k2_core.lake.tables import REFERENCE_INSTRUMENTS
from k2_core.logs import logger
from k2_core.settings import Settings
from k2_core.venues.listings import Listings
from k2_core.venues.venue_protocol import Venue

log = logger(__name__)

Fetch = Callable[[str], bytes]
# pyiceberg's predicates take (column, value); their type stubs, made by pydantic, know keywords only.
_equal: Final[Any] = EqualTo
_in: Final[Any] = In
_is_null: Final[Any] = IsNull


class VenueRefresh:
    """One venue's part of the register."""

    def __init__(self, catalog: Catalog, settings: Settings, venue: Venue, fetch_list: Fetch | None = None) -> None:
        self._catalog = catalog
        self._settings = settings
        self._venue = venue
        self._fetch = fetch_list or (lambda url: fetch(url, settings.feeds.ca_file))
        self._margin = timedelta(seconds=settings.reference.valid_after_s)

    def run(self) -> tuple[int, Changes]:
        """Fetch the list and commit what it changes; return how many instruments it lists, and the changes.

        Raises:
            DownloadError: the venue does not answer.
            MalformedFrame: the answer is no list of instruments.
            CommitConflict: other writers were first again and again.
        """
        feed = self._settings.feeds.of(self._venue.VENUE)
        url = self._venue.instruments_url(feed.rest_url)
        body = self._fetch(url)
        source = Source(self._venue.VENUE, self._venue.ASSET_CLASS, url, clock.now(), frozenset(feed.symbols))
        listings: Listings = self._venue.parse_instruments(body)
        if listings.trouble:
            log.warning(listings.trouble, venue=self._venue.VENUE)
        return len(listings), self._commit(listings, source)

    def _commit(self, listings: Listings, source: Source) -> Changes:
        found = Changes()
        read = {each.venue_symbol for each in listings}
        of_venue = _equal("exchange", source.exchange)

        def compute(table: Table) -> Change | None:
            nonlocal found
            rows: list[Row] = table.scan(And(of_venue, _is_null("valid_to"))).to_arrow().to_pylist()
            # A version whose entry could not be read stays: the list neither confirms nor ends it.
            existing = [
                row for row in rows if row["venue_symbol"] in read or not listings.may_lack(row["venue_symbol"])
            ]
            # The time is taken at each attempt to commit: no version may hold before drains can read it, however long
            # other writers were first. The margin is longer than a drain keeps an older register.
            found = changes(existing, listings, source, clock.now() + self._margin)
            if not found.rows:
                return None
            made = pa.Table.from_pylist(found.rows, schema=arrow_schema(REFERENCE_INSTRUMENTS))
            # The open versions of these symbols go, and come again with their end.
            replaced = [*found.changed, *found.delisted]
            ended = And(_is_null("valid_to"), _in("venue_symbol", replaced))
            return Change(made, And(of_venue, ended) if replaced else None, {})

        name = (self._settings.catalog.namespace, REFERENCE_INSTRUMENTS.name)
        commit_derived(lambda: self._catalog.load_table(name), compute)
        begins = [row["valid_from"] for row in found.rows if row["valid_to"] is None]
        if begins and min(begins) < clock.now():
            late = "versions were stored after they began to hold: rebuild silver since then"
            log.error(late, exchange=self._venue.VENUE, valid_from=min(begins).isoformat())
        return found
