"""Is the register what it says it is? Pure judgement of its rows."""

from typing import Final

import polars as pl

COLUMNS: Final = ("exchange", "venue_symbol", "symbol", "status", "valid_from", "valid_to")
_KEY: Final = ("exchange", "venue_symbol")


def contradictions(versions: pl.DataFrame) -> dict[str, int]:
    """Return how many versions break each rule.

    A version ends exactly where the next one of its symbol begins, and the last one is open.
    """
    in_order = versions.sort(*_KEY, "valid_from")
    following = pl.col("valid_from").shift(-1).over(_KEY)
    ends = pl.col("valid_to")
    judged = in_order.select(
        empty=ends <= pl.col("valid_from"),
        overlap=following.is_not_null() & (ends.is_null() | (ends > following)),
        hole=following.is_not_null() & (ends < following),
        ended=following.is_null() & ends.is_not_null(),
    )
    return {name: int(judged[name].fill_null(value=False).sum()) for name in judged.columns}


def shared_symbols(versions: pl.DataFrame) -> list[str]:
    """Return the symbols of ours that two listed symbols of a venue share: gold would take them for one market."""
    listed = versions.filter(pl.col("valid_to").is_null() & (pl.col("status") != "delisted"))
    names = listed.group_by("exchange", "symbol").agg(pl.col("venue_symbol").n_unique().alias("spellings"))
    shared = names.filter(pl.col("spellings") > 1).sort("exchange", "symbol")
    return [f"{exchange} {symbol}" for exchange, symbol, _ in shared.iter_rows()]
