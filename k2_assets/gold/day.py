"""A day of gold: taking in its news, rebuilding it, and how it is now. The assets and refine call these functions."""

from dataclasses import dataclass
from datetime import date
from typing import Any, Final

import dagster as dg
import polars as pl

from k2_assets.gold import refresh, refresh_candles
from k2_assets.gold.fit import FIT, fitness
from k2_assets.gold.refresh import GoldRefresh
from k2_assets.gold.refresh_candles import CandlesRefresh
from k2_assets.lake_files import live_files, read_files
from k2_assets.lake_writer.commits import ATTEMPTS
from k2_assets.lake_writer.lock import is_locked, lock
from k2_assets.presentation import ROW_COUNT, markdown_table, microseconds
from k2_assets.resources.lake import Lake
from k2_core import tables
from k2_core.candles import TIMEFRAMES
from k2_core.errors import CommitConflict, UnfitTrades
from k2_core.logs import logger
from k2_core.tables import DATA, GOLD, GOLD_OHLCV_1M, GOLD_TRADES
from k2_core.venues import VENUES
from k2_core.venues.routing import Data

log = logger(__name__)

SILVER: Final[dict[Data, tuple[str, ...]]] = {
    data: tuple(tables.silver(venue, data).name for venue in VENUES) for data in DATA
}
"""What each gold table is made of."""
_DATA_OF: Final[dict[str, Data]] = {GOLD[data].name: data for data in DATA}
_NEWEST: Final = (
    *("symbol", "exchange", "window_start", "open_price", "high_price", "low_price", "close_price"),
    *("volume", "trade_count", "is_complete", "missing_trades"),
)
_SHOWN: Final = 3  # each report holds them
SEQUENCE: Final = "sequence number"
"""Named so in what Dagster shows of a day: the largest Iceberg data sequence number of its files. It grows with each
commit of rows of the day."""
_LEASE_WAIT_S: Final = 60.0
_BESIDE_OTHERS: Final = 2  # attempts of a rebuild before it asks others to wait
Outcome = refresh.Outcome | refresh_candles.Outcome


@dataclass(frozen=True)
class GoldDay:
    """A day of one table of gold: its trades, its quotes or its candles."""

    lake: Lake
    table: str
    day: date

    def take_in_news(self) -> Outcome:
        """Take in what the layer below has and this one has not.

        Raises:
            CommitConflict: other writers were first again and again.
            UnfitTrades: candles cannot be made of its trades.
        """
        self._require_fit(whole=False)
        made = self._refresh()
        return made.append_new() if isinstance(made, GoldRefresh) else made.recompute_touched()

    def rebuild(self) -> Outcome:
        """Rebuild the whole day from all that the layer below has; nothing is committed when nothing differs.

        Where others commit to the table faster than the day can be computed, refine waits until it is.

        Raises:
            CommitConflict: other writers were first again and again.
            LockBusy: another run rebuilds this day, or has others wait for another day of the table.
            UnfitTrades: candles cannot be made of its trades.
        """
        with lock(self.lake.catalog(), self._lease, _LEASE_WAIT_S):
            self._require_fit(whole=True)
            try:
                return self._replace(attempts=_BESIDE_OTHERS)
            except CommitConflict as conflict:
                log.info("rebuilding alone", table=self.table, day=str(self.day), conflict=str(conflict))
            with lock(self.lake.catalog(), self._turn, _LEASE_WAIT_S):
                return self._replace(attempts=ATTEMPTS)

    def _replace(self, *, attempts: int) -> Outcome:
        made = self._refresh()
        whole = made.replace_day if isinstance(made, GoldRefresh) else made.recompute_day
        return whole(attempts=attempts)

    def nothing_done(self) -> Outcome:
        """Return the outcome of a refresh that found no news."""
        return refresh.Outcome() if self.table in _DATA_OF else refresh_candles.Outcome()

    def is_leased(self) -> bool:
        """Tell whether another run rebuilds the day now, or needs that nobody commits to the table meanwhile."""
        return is_locked(self.lake.catalog(), self._lease, self._turn)

    @property
    def _lease(self) -> str:
        return f"day:{self.table}:{self.day}"

    @property
    def _turn(self) -> str:
        return f"turn:{self.table}"

    def facts(self, outcome: Outcome) -> dict[str, Any]:
        """Return what Dagster shows of the day: what was done, and how it is now."""
        if isinstance(outcome, refresh.Outcome):
            done: dict[str, Any] = {
                "rows added": outcome.rows_added,
                "silver rows read": outcome.rows_read,
                "repeats dropped": outcome.repeated,
                "copies that differ": outcome.conflicting,
            }
            return done | self._state("timestamp")
        return self._candles(outcome) | self._state("window_start")

    def _require_fit(self, *, whole: bool) -> None:
        """Leave candles as they are while a trade of the day is unfit for them.

        Raises:
            UnfitTrades: one is.
        """
        if self.table != GOLD_OHLCV_1M.name:
            return
        found = fitness(self.lake, self.day, whole=whole)
        if found.unfit:
            msg = f"the check {FIT} of {GOLD_TRADES.name} fails ({found}): rebuild {GOLD_TRADES.name} of {self.day}"
            raise UnfitTrades(msg)

    def _refresh(self) -> GoldRefresh | CandlesRefresh:
        catalog, namespace = self.lake.catalog(), self.lake.namespace
        if data := _DATA_OF.get(self.table):
            return GoldRefresh(catalog, namespace, SILVER[data], self.day, data)
        return CandlesRefresh(catalog, namespace, GOLD_OHLCV_1M, TIMEFRAMES["1m"], self.day)

    def _candles(self, outcome: refresh_candles.Outcome) -> dict[str, Any]:
        candles = day_of(self.lake, self.table, "window_start", self.day, _NEWEST)
        newest = candles.sort("window_start", "symbol", descending=True).head(_SHOWN)
        return {
            "windows computed": outcome.windows_computed,
            "windows changed": outcome.windows_changed,
            "windows not complete": candles.filter(~pl.col("is_complete")).height if candles.height else 0,
            "newest candles": markdown_table(newest, _NEWEST),
        }

    def _state(self, time_column: str) -> dict[str, dg.MetadataValue]:
        """Return how the day is now: rows, files, the newest row's time."""
        files = live_files(self.lake.table(self.table), time_column, day=self.day)
        state: dict[str, dg.MetadataValue] = {
            ROW_COUNT: dg.MetadataValue.int(sum(each.file.record_count for each in files)),
            "files of the day": dg.MetadataValue.int(len(files)),
        }
        if files:
            state["newest row"] = microseconds(max(each.last_us for each in files))
            state[SEQUENCE] = dg.MetadataValue.int(max(each.sequence for each in files))
        return state


def sequences(lake: Lake, name: str) -> dict[date, int]:
    """Return the days of a table of gold, and the largest sequence number of each one's files."""
    table, found = lake.table(name), dict[date, int]()
    for each in live_files(table, "timestamp" if name in _DATA_OF else "window_start"):
        found[each.day] = max(each.sequence, found.get(each.day, 0))
    return found


def day_of(lake: Lake, name: str, time_column: str, day: date, columns: tuple[str, ...]) -> pl.DataFrame:
    """Read some columns of one day of a table."""
    table = lake.table(name)
    return read_files(table, live_files(table, time_column, day=day), columns)
