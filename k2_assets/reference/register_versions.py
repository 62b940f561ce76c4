"""What a new list of a venue's instruments changes in the register. Pure: rows in, rows out.

The versions of a symbol follow each other without overlap or hole: a change ends the open version at the moment where
the next one begins. A symbol that is no longer listed gets a last, open version that says so.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from k2_core.instruments import Listing
from k2_core.trades import PRICE_PRECISION, PRICE_SCALE, QUANTITY_PRECISION, QUANTITY_SCALE, exact, plain

Row = dict[str, Any]

ATTRIBUTES: Final = (
    *("symbol", "base", "quote", "tick_size", "lot_size", "status", "venue_status", "tier", "asset_class"),
)
"""A change of one of these makes a new version."""
FED, TRADING, OTHER = 1, 2, 3
_INSTANT: Final = timedelta(microseconds=1)


@dataclass(frozen=True)
class Source:
    """Where a list came from, and what its entries share."""

    exchange: str
    asset_class: str
    url: str
    fetched_at: datetime
    fed: frozenset[str]
    """The venue's symbols that the settings feed."""


@dataclass
class Changes:
    """What has to be committed: the symbols whose open version ends, changed or delisted, and the rows that come."""

    new: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    delisted: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)


def changes(existing: Iterable[Row], listings: Iterable[Listing], source: Source, valid_from: datetime) -> Changes:
    """Compare a list with the open versions.

    Args:
        existing: the venue's versions without an end.
        listings: everything that the venue lists now.
        source: of the list.
        valid_from: when what is new begins to hold; later by an instant where the open version begins later.
    """
    # A symbol without an open version is new; one with other attributes has changed; one that the list lacks is
    # delisted, once. What is as before is not written: the register grows with changes alone.
    open_versions = {row["venue_symbol"]: row for row in existing}
    found = Changes()
    listed = {each.venue_symbol: _version(each, source) for each in listings}
    for symbol, version in listed.items():
        before = open_versions.get(symbol)
        if before is None:
            found.new.append(symbol)
            found.rows.append(version | {"valid_from": valid_from})
        elif any(before[name] != version[name] for name in ATTRIBUTES):
            found.changed.append(symbol)
            found.rows += _succession(before, version, valid_from)
    for symbol, before in open_versions.items():
        gone = {"status": "delisted", "venue_status": "not listed", "tier": OTHER}
        if symbol not in listed and before["venue_status"] != gone["venue_status"]:
            found.delisted.append(symbol)
            facts = {"fetched_at": source.fetched_at, "source": source.url}
            found.rows += _succession(before, before | gone | facts, valid_from)
    return found


def _version(listing: Listing, source: Source) -> Row:
    if listing.venue_symbol in source.fed and listing.status != "delisted":
        tier = FED
    else:
        tier = TRADING if listing.status == "trading" else OTHER
    return {
        "exchange": source.exchange,
        "venue_symbol": listing.venue_symbol,
        "symbol": listing.symbol,
        "base": listing.base,
        "quote": listing.quote,
        "tick_size": _size(listing.tick_size, PRICE_PRECISION, PRICE_SCALE),
        "lot_size": _size(listing.lot_size, QUANTITY_PRECISION, QUANTITY_SCALE),
        "status": listing.status,
        "venue_status": listing.venue_status,
        "tier": tier,
        "asset_class": source.asset_class,
        "valid_to": None,
        "fetched_at": source.fetched_at,
        "source": source.url,
    }


def _succession(before: Row, version: Row, valid_from: datetime) -> list[Row]:
    """Return the version that ends and the one that follows it."""
    begins = max(valid_from, before["valid_from"] + _INSTANT)
    return [before | {"valid_to": begins}, version | {"valid_from": begins, "valid_to": None}]


def _size(text: str | None, precision: int, scale: int) -> Decimal | None:
    """Return a size exactly; None when its column cannot hold it, which is never rounded."""
    number = None if text is None else exact(text)
    spelled = None if number is None else plain(number, precision, scale)
    return None if spelled is None else Decimal(spelled)
