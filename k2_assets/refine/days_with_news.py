"""Which days of gold have news: the layer below has new files of them, or has rebuilt them.

News of a window of several minutes that is still open waits until a minute has gone by since the table's last commit.
"""

from datetime import date
from typing import Final

from pyiceberg.table import Table

from k2_assets.lake.first_partition import is_day_of_data
from k2_assets.lake.lake_resource import Lake
from k2_assets.lake.rebuilt_days import Taken
from k2_assets.lake.source_files import Seen, live_files
from k2_assets.reference.epoch_register import epochs_table
from k2_core import clock
from k2_core.lake.catalog import pointers
from k2_core.lake.table_spec import TableSpec
from k2_core.lake.tables import GOLD_OHLCV_1M, GOLD_TABLES, GOLD_TRADES, REFERENCE_EPOCHS
from k2_core.timeframes import ONE_MINUTE

_OPEN_WINDOWS_S: Final = 60.0
_SILVER: Final = {name for spec in GOLD_TABLES.values() for name in spec.made_from} - GOLD_TABLES.keys()


class News:
    """Follows the catalog: nothing is read while no table has changed since the last look.

    ``last`` is what that look found, ``newest_days`` the newest day that each table of gold has taken in.
    """

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._pointers: dict[str, str] = {}
        self._tables: dict[str, Table] = {}
        self._today = date.min
        # What each table has taken in of its newest day, and since when (monotonic). Old days and maintenance move the
        # table, too, again and again: they keep nothing waiting.
        self._newest: dict[str, tuple[object, float]] = {}
        self._waiting: set[str] = set()  # tables of candles with news of open windows alone
        self._silver_pointers: dict[str, str] = {}
        self.last: dict[str, set[date]] = {}
        self.newest_days: dict[str, date | None] = {}

    def is_arriving(self) -> bool:
        """Return whether a table of silver has moved since the last call.

        Raises:
            SQLAlchemyError: the catalog cannot be read.
        """
        before, found = self._silver_pointers, pointers(self._lake.catalog(), self._lake.namespace)
        self._silver_pointers = {name: found[name] for name in _SILVER if name in found}
        return self._silver_pointers != before

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
        if self._today != (today := clock.now().date()):
            self.last = {}  # days that were in the future, and so no days of data, may have rows already
        # Only a table of gold that has moved, or whose sources or register of epochs have moved, is compared again.
        for name, spec in GOLD_TABLES.items():
            touched = not moved.isdisjoint({name, REFERENCE_EPOCHS.name, *spec.made_from})
            if name not in self.last or touched or (name in self._waiting and not self._has_just_taken(name)):
                self.last[name] = self._behind(spec)
        self._pointers, self._today = found, today
        return self.last

    def _has_just_taken(self, name: str) -> bool:
        return clock.monotonic() - self._newest[name][1] < _OPEN_WINDOWS_S

    def _behind(self, spec: TableSpec) -> set[date]:
        table = self._table(spec.name)
        seen, taken = Seen.of(table), Taken.of(table)
        self.newest_days[spec.name] = newest_day = seen.newest_day()
        of_newest = (newest_day, seen.of_day(newest_day) if newest_day else None)
        before = self._newest.get(spec.name)
        if before is None or before[0] != of_newest:
            self._newest[spec.name] = of_newest, -_OPEN_WINDOWS_S if before is None else clock.monotonic()
        open_us = None  # from here on windows are open, and their news can wait
        if spec.timeframe is not None and spec.timeframe != ONE_MINUTE and self._has_just_taken(spec.name):
            now_us = clock.to_us(clock.now())
            open_us = now_us - now_us % spec.timeframe.width_us
        days: set[date] = set()
        self._waiting.discard(spec.name)
        for each in spec.made_from:
            source = self._table(each)
            files = live_files(source, "window_start" if each == GOLD_OHLCV_1M.name else "timestamp")
            news = seen.behind(source, files)
            if open_us is not None and news:
                due = seen.behind(source, [file for file in files if file.first_us < open_us])
                if due != news:
                    self._waiting.add(spec.name)
                news = due
            days |= news | taken.behind(source)
        if spec == GOLD_TRADES:
            epochs = epochs_table(self._lake.catalog(), self._lake.namespace)
            if epochs is not None and epochs.current_snapshot() is not None:
                days |= taken.behind(epochs)
        return {day for day in days if is_day_of_data(day)}

    def _table(self, name: str) -> Table:
        if name not in self._tables:
            self._tables[name] = self._lake.table(name)
        return self._tables[name]
