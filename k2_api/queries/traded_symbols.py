"""Which symbols are traded where, from what each data file is known to hold."""

from itertools import groupby

from k2_api.lake.duckdb_engine import Row
from k2_api.lake.file_groups import Group
from k2_api.lake.file_index import Filter
from k2_api.lake.lake_reader import PinnedTable
from k2_core.clock import from_us, iso


def list_symbols(trades: PinnedTable, where: Filter) -> list[Row]:
    """Return each (symbol, exchange) that has trades, with their number and the times of the first and the last."""
    ordered = sorted(trades.groups(where), key=_market)
    return [_row(*market, list(groups)) for market, groups in groupby(ordered, key=_market)]


def _market(group: Group) -> tuple[str, str]:
    return group.symbol, group.exchange


def _row(symbol: str, exchange: str, groups: list[Group]) -> Row:
    return {
        "symbol": symbol,
        "exchange": exchange,
        "trade_count": sum(group.rows for group in groups),
        "first_trade_at": iso(from_us(min(group.first_us for group in groups))),
        "last_trade_at": iso(from_us(max(group.last_us for group in groups))),
    }
