"""Symbols that a venue acknowledges or serves under another name than it was asked for. Pure."""

from collections.abc import Set

from k2_core.venues.venue_protocol import Venue


def served_as(venue: Venue, lost: Set[str], names: Set[str], asked: Set[str]) -> dict[str, str]:
    """Return under which name each symbol comes that came under no name of its own.

    Args:
        venue: which documents some aliases.
        lost: symbols that were asked for and that nothing named.
        names: those that an acknowledgement, or data, did name.
        asked: all that were asked for.

    A name that nobody asked for is taken for the one lost symbol of the same base. Without such a symbol it means
    something only where one symbol alone was asked for, and one name came.
    """
    found = {symbol: other for symbol in lost if (other := _documented(venue, symbol)) in names}
    strangers = names - asked - set(found.values())
    for stranger in sorted(strangers):
        left = sorted(lost - found.keys())
        candidates = [symbol for symbol in left if _have_one_base(venue, symbol, stranger)]
        if not candidates and len(asked) == len(strangers) == 1:
            candidates = left
        if len(candidates) == 1:
            found[candidates[0]] = stranger
    return found


def _documented(venue: Venue, symbol: str) -> str:
    for ending, other in venue.SERVED_AS.items():
        if symbol.endswith(ending):
            return symbol.removesuffix(ending) + other
    return ""


def _have_one_base(venue: Venue, symbol: str, other: str) -> bool:
    one, two = venue.instrument_of(symbol), venue.instrument_of(other)
    return one is not None and two is not None and one.base == two.base
