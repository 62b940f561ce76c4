"""Which days of gold have news: files below them that they have not taken in, or days that were made anew."""

from collections.abc import Iterable
from datetime import date
from typing import Final

from pyiceberg.table import Table

from k2_assets.first_partition import is_day_of_data
from k2_assets.gold.day import SILVER
from k2_assets.lake_files import ManifestCache, Seen, live_files
from k2_assets.rebuilt import Taken
from k2_assets.reference.epochs import epochs_table
from k2_assets.resources.lake import Lake
from k2_core.catalog import pointers
from k2_core.tables import DATA, GOLD, GOLD_OHLCV_1M, GOLD_TRADES, REFERENCE_EPOCHS

SOURCES: Final = {
    GOLD_TRADES.name: SILVER["trades"],
    GOLD_OHLCV_1M.name: (GOLD_TRADES.name,),
    GOLD["quotes"].name: SILVER["quotes"],
}
"""What each table of gold is made from, in the order in which a day's are refreshed."""
assert set(SOURCES) >= {GOLD[data].name for data in DATA}  # noqa: S101  # a new kind of data has its place here


class News:
    """Follows the catalog: nothing is read while no table has changed since the last look, which ``last`` keeps."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._manifests: dict[str, ManifestCache] = {}
        self._pointers: dict[str, str] = {}
        self._tables: dict[str, Table] = {}
        self.last: dict[str, set[date]] = {}

    def days(self) -> dict[str, set[date]]:
        """Return the days that have news, by table of gold.

        Raises:
            SQLAlchemyError: the catalog cannot be read.
            OSError: a metadata file cannot be read.
        """
        found = pointers(self._lake.catalog(), self._lake.namespace)
        moved = {name for name in found if found[name] != self._pointers.get(name)}
        for name in moved:
            self._tables.pop(name, None)
        for name, sources in SOURCES.items():
            if name not in self.last or not moved.isdisjoint({name, REFERENCE_EPOCHS.name, *sources}):
                self.last[name] = self._behind(name, sources)
        self._pointers = found
        return self.last

    def newest_day(self, name: str) -> date | None:
        """Return the newest day that a table of gold has taken in."""
        return Seen.of(self._table(name)).newest_day()

    def _behind(self, name: str, sources: Iterable[str]) -> set[date]:
        table = self._table(name)
        seen, taken = Seen.of(table), Taken.of(table)
        days: set[date] = set()
        for each in sources:
            source = self._table(each)
            cache = self._manifests.setdefault(each, ManifestCache())
            days |= seen.behind(source, live_files(source, "timestamp", cache)) | taken.behind(source)
        if name == GOLD_TRADES.name and (epochs := epochs_table(self._lake.catalog(), self._lake.namespace)):
            days |= taken.behind(epochs) if epochs.current_snapshot() else set()
        return {day for day in days if is_day_of_data(day)}

    def _table(self, name: str) -> Table:
        if name not in self._tables:
            self._tables[name] = self._lake.table(name)
        return self._tables[name]
