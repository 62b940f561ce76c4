"""Which symbols are traded on which exchange, from the groups that each data file holds. Reads no rows."""

from collections import defaultdict
from typing import Final

import pyarrow as pa

from k2_api.lake.file_groups import Group
from k2_api.lake.file_index import Filter
from k2_api.lake.lake_reader import PinnedTable

_TIME: Final = pa.timestamp("us", "UTC")
SYMBOLS: Final = pa.schema(
    {
        "symbol": pa.string(),
        "exchange": pa.string(),
        "trade_count": pa.int64(),
        "first_trade_at": _TIME,
        "last_trade_at": _TIME,
    }
)
"""The columns of an answer."""


def list_symbols(trades: PinnedTable, where: Filter) -> list[dict[str, object]]:
    """Return each (symbol, exchange) that has trades, with their number and the times of the first and the last."""
    # A group is one market in one data file, with its number of rows and its first and last time.
    markets: defaultdict[tuple[str, str], list[Group]] = defaultdict(list)
    for group in trades.groups(where):
        markets[group.symbol, group.exchange].append(group)
    return [
        {
            "symbol": symbol,
            "exchange": exchange,
            "trade_count": sum(group.rows for group in groups),
            "first_trade_at": min(group.first_us for group in groups),
            "last_trade_at": max(group.last_us for group in groups),
        }
        for (symbol, exchange), groups in sorted(markets.items())
    ]
