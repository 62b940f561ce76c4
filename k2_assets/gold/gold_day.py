"""A day of gold: taking in its news, and rebuilding it. The assets and refine call these functions."""

from dataclasses import dataclass
from datetime import date
from typing import Final

from k2_assets.gold import refresh_candles, refresh_rows
from k2_assets.gold.candle_fitness import FIT, fitness
from k2_assets.gold.refresh_candles import CandlesRefresh
from k2_assets.gold.refresh_rows import GoldRefresh
from k2_assets.lake.commits import ATTEMPTS
from k2_assets.lake.lake_resource import Lake
from k2_assets.lake.table_lock import RowLeases, lock
from k2_core.errors import CommitConflict, UnfitTrades
from k2_core.lake import tables
from k2_core.lake.tables import DATA, GOLD, GOLD_OHLCV_1M, GOLD_TRADES
from k2_core.logs import logger
from k2_core.timeframes import TIMEFRAMES
from k2_core.venues import VENUES
from k2_core.venues.routing import Data

log = logger(__name__)

SILVER: Final[dict[Data, tuple[str, ...]]] = {
    data: tuple(tables.silver(venue, data).name for venue in VENUES) for data in DATA
}
"""What each gold table is made of."""
DATA_OF: Final[dict[str, Data]] = {GOLD[data].name: data for data in DATA}
_LEASE_WAIT_S: Final = 60.0
_BESIDE_OTHERS: Final = 2  # attempts of a rebuild before it asks others to wait
Outcome = refresh_rows.Outcome | refresh_candles.Outcome


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
        return refresh_rows.Outcome() if self.table in DATA_OF else refresh_candles.Outcome()

    def is_leased(self) -> bool:
        """Tell whether another run rebuilds the day now, or needs that nobody commits to the table meanwhile."""
        leases = RowLeases(self.lake.catalog())
        return any(leases.holder(name) is not None for name in (self._lease, self._turn))

    @property
    def _lease(self) -> str:
        return f"day:{self.table}:{self.day}"

    @property
    def _turn(self) -> str:
        return f"turn:{self.table}"

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
        if data := DATA_OF.get(self.table):
            return GoldRefresh(catalog, namespace, SILVER[data], self.day, data)
        return CandlesRefresh(catalog, namespace, GOLD_OHLCV_1M, TIMEFRAMES["1m"], self.day)
