"""Bring the register up to a venue's list: fetch, compare, commit. Knows no Dagster."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.expressions import And, BooleanExpression, EqualTo, In, IsNull
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

        def standing(table: Table) -> list[Row]:
            """Return the open versions but those that are neither confirmed nor denied: their entry was not read."""
            rows = open_versions(table, source.exchange)
            return [row for row in rows if row["venue_symbol"] in read or not listings.may_lack(row["venue_symbol"])]

        def compute(table: Table) -> Change | None:
            nonlocal found
            # Counted from the commit, not from the list: what waited for other writers must not hold before it stands.
            found = changes(standing(table), listings, source, clock.now() + self._margin)
            return _change(found, source.exchange) if found.rows else None

        commit_derived(self._load, compute)
        self._tell_if_late(found)
        return found

    def _load(self) -> Table:
        return self._catalog.load_table((self._settings.catalog.namespace, REFERENCE_INSTRUMENTS.name))

    def _tell_if_late(self, found: Changes) -> None:
        begins = [row["valid_from"] for row in found.rows if row["valid_to"] is None]
        if begins and min(begins) < clock.now():
            late = "versions stand later than they hold: make silver anew since then"
            log.error(late, exchange=self._venue.VENUE, valid_from=min(begins).isoformat())


def open_versions(table: Table, exchange: str) -> list[Row]:
    """Return the versions of a venue that have no end."""
    rows: list[Row] = table.scan(And(_equal("exchange", exchange), _is_null("valid_to"))).to_arrow().to_pylist()
    return rows


def _change(found: Changes, exchange: str) -> Change:
    rows = pa.Table.from_pylist(found.rows, schema=arrow_schema(REFERENCE_INSTRUMENTS))
    return Change(rows, _closed(found.replaced, exchange) if found.replaced else None, {})


def _closed(symbols: list[str], exchange: str) -> BooleanExpression:
    """Return the open versions of some symbols, whose rows come again with their end."""
    return And(_equal("exchange", exchange), And(_is_null("valid_to"), _in("venue_symbol", symbols)))
