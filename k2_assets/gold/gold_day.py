"""A day of gold: refine has it take in what is new, assets have it rebuilt."""

from dataclasses import dataclass
from datetime import date
from typing import Final

from k2_assets.gold.refresh_candles import CandlesRefresh
from k2_assets.gold.refresh_counts import RefreshCounts, RowCounts, WindowCounts
from k2_assets.gold.refresh_rows import GoldRefresh
from k2_assets.lake.lake_resource import Lake
from k2_assets.lake.table_lock import leases_of, lock
from k2_core.errors import CommitConflict
from k2_core.lake.table_spec import TableSpec
from k2_core.lake.tables import GOLD, GOLD_TABLES
from k2_core.logs import logger
from k2_core.venues.routing import Data

log = logger(__name__)

_DATA_OF: Final[dict[str, Data]] = {spec.name: data for data, spec in GOLD.items()}
_LEASE_WAIT_S: Final = 60.0
_BESIDE_OTHERS: Final = 2  # attempts of a rebuild before it asks others to wait


@dataclass(frozen=True)
class GoldDay:
    """A day of one table of gold: its trades, its quotes or its candles."""

    lake: Lake
    table: str
    day: date

    @property
    def spec(self) -> TableSpec:
        """The table's declaration."""
        return GOLD_TABLES[self.table]

    def take_in_news(self) -> RefreshCounts:
        """Take in what is new in the layer below.

        Raises:
            CommitConflict: other writers were first again and again.
            UnfitTrades: candles cannot be made of its trades.
        """
        return self._refresh().take_in_news()

    def rebuild(self) -> RefreshCounts:
        """Rebuild the whole day from all that the layer below has; nothing is committed when nothing differs.

        Raises:
            CommitConflict: other writers were first again and again.
            LockBusy: another run rebuilds this day, or rebuilds another day of the table alone.
            UnfitTrades: candles cannot be made of its trades.
        """
        lease, turn = self._locks()
        with lock(self.lake.catalog(), lease, _LEASE_WAIT_S):
            try:
                return self._refresh().replace_day(attempts=_BESIDE_OTHERS)
            except CommitConflict as conflict:
                log.info("rebuilding alone", table=self.table, day=str(self.day), conflict=str(conflict))
            # Others commit to the table faster than the day can be computed: refine leaves the table alone until it is.
            with lock(self.lake.catalog(), turn, _LEASE_WAIT_S):
                return self._refresh().replace_day()

    def nothing_done(self) -> RefreshCounts:
        """Return the counts of a refresh that found nothing new."""
        return RowCounts() if self.spec.timeframe is None else WindowCounts()

    def is_leased(self) -> bool:
        """Return whether another run rebuilds the day now, or rebuilds another day of the table alone."""
        leases = leases_of(self.lake.catalog())
        return any(leases.holder(name) is not None for name in self._locks())

    def _locks(self) -> tuple[str, str]:
        """Return the names of the lock on the day and of the lock on the whole table."""
        return f"day:{self.table}:{self.day}", f"turn:{self.table}"

    def _refresh(self) -> GoldRefresh | CandlesRefresh:
        catalog, namespace = self.lake.catalog(), self.lake.namespace
        if self.spec.timeframe is None:
            return GoldRefresh(catalog, namespace, self.spec.made_from, self.day, _DATA_OF[self.table])
        return CandlesRefresh(catalog, namespace, self.spec, self.day)
