"""What each column is made from: the same-named columns of the tables below, but for the few that are listed here."""

from collections.abc import Mapping
from typing import Final

from k2_core.lake import tables
from k2_core.lake.table_spec import TableSpec
from k2_core.lake.tables import DATA, GOLD_OHLCV_1M, GOLD_TRADES
from k2_core.timeframes import ONE_MINUTE
from k2_core.venues import VENUES

_BY_THE_CLOCK: Final[Mapping[str, tuple[str, ...]]] = {"created_at": (), "updated_at": ()}
_OF_TRADES: Final[Mapping[str, tuple[str, ...]]] = {
    **dict.fromkeys(("window_start", "window_end", "window_date"), ("timestamp",)),
    **dict.fromkeys(("open_price", "close_price"), ("price", "timestamp", "source_sequence", "trade_id")),
    **dict.fromkeys(("high_price", "low_price"), ("price",)),
    "volume": ("quantity",),
    **dict.fromkeys(("quote_volume", "vwap"), ("price", "quantity")),
    "trade_count": ("message_id",),
    **dict.fromkeys(("first_trade_id", "last_trade_id"), ("trade_id", "timestamp", "source_sequence")),
    **dict.fromkeys(("is_complete", "missing_trades", "lowest_sequence", "highest_sequence"), ("source_sequence",)),
    **_BY_THE_CLOCK,
}
_OF_MINUTES: Final[Mapping[str, tuple[str, ...]]] = {
    **dict.fromkeys(("window_end", "window_date"), ("window_start",)),
    "vwap": ("quote_volume", "volume"),
    **dict.fromkeys(("is_complete", "missing_trades"), ("missing_trades", "lowest_sequence", "highest_sequence")),
    **_BY_THE_CLOCK,
}
_OF_FRAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "kafka_topic": ("topic",),
    "platform_sequence": ("kafka_offset",),
    "reason": ("payload", "unread"),
    "error": ("payload", "unread"),
}
_TABLES: Final = {spec.name: spec for spec in tables.all_tables(tuple(VENUES))}
_BRONZE: Final = {tables.bronze(venue, data).name for venue in VENUES for data in DATA}


def sources(spec: TableSpec) -> dict[str, list[tuple[str, str]]]:
    """Return for each column of a derived table the (table, column) pairs that its values are computed from.

    A column that is set by the clock has none. What bronze holds of Kafka's messages has none here either.
    """
    listed: Mapping[str, tuple[str, ...]] = {}
    if spec.made_from == (GOLD_TRADES.name,):
        listed = _OF_TRADES
    elif spec.made_from == (GOLD_OHLCV_1M.name,) and spec.timeframe != ONE_MINUTE:
        listed = _OF_MINUTES
    found: dict[str, list[tuple[str, str]]] = {}
    for column in spec.columns:
        found[column.name] = []
        for name in spec.made_from:
            known = {each.name for each in _TABLES[name].columns}
            if name in _BRONZE:  # what a frame says is parsed from its bytes
                wanted = _OF_FRAMES.get(column.name, (column.name,) if column.name in known else ("payload",))
            else:
                wanted = listed.get(column.name, (column.name,))
            found[column.name] += [(name, each) for each in wanted if each in known]
    return found
