"""Symbols that a venue acknowledges or serves under another name than it was asked for. Pure."""

from collections.abc import Set

from k2_core.venues.venue_protocol import Venue


def served_as(venue: Venue, lost: Set[str], names: Set[str], asked: Set[str]) -> dict[str, str]:
    """Return the other name of each lost symbol that the venue serves under one.

    Args:
        venue: which documents some aliases.
        lost: symbols that were asked for, and are in no acknowledgement and no data.
        names: symbols that are in an acknowledgement, or in data.
        asked: all symbols that were asked for.
    """
    found: dict[str, str] = {}
    for ending, other in venue.SERVED_AS.items():
        documented = {symbol: symbol.removesuffix(ending) + other for symbol in lost if symbol.endswith(ending)}
        found |= {symbol: alias for symbol, alias in documented.items() if alias in names}
    # A name that nobody asked for belongs to the one lost symbol with the same base. If no symbol has that base, it is
    # an alias only if one symbol was asked for, and one such name came.
    strangers = names - asked - set(found.values())
    for stranger in sorted(strangers):
        left, instrument = sorted(lost - found.keys()), venue.instrument_of(stranger)
        known = [(symbol, venue.instrument_of(symbol)) for symbol in left]
        candidates = [symbol for symbol, each in known if each and instrument and each.base == instrument.base]
        if not candidates and len(asked) == len(strangers) == 1:
            candidates = left
        if len(candidates) == 1:
            found[candidates[0]] = stranger
    return found
