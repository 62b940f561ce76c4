"""The resource through which assets reach the lake: the settings, and tables opened when asked for."""

from dataclasses import dataclass
from datetime import date
from functools import cached_property

import polars as pl
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from k2_assets.lake.row_filters import day_bounds_us, time_between
from k2_assets.lake.source_files import live_files, read_files
from k2_core.lake.catalog import ensure_tables, open_catalog
from k2_core.lake.planned_read import ALL_ROWS
from k2_core.lake.table_spec import TableSpec
from k2_core.lake.tables import all_tables
from k2_core.settings import Settings
from k2_core.venues import VENUES


@dataclass(frozen=True)
class Lake:
    """The lake that the settings name."""

    settings: Settings

    @property
    def namespace(self) -> str:
        return self.settings.catalog.namespace

    def catalog(self) -> Catalog:
        """Return the catalog, opened once in a process; missing tables are created."""
        return self._catalog

    @cached_property
    def _catalog(self) -> Catalog:
        catalog = open_catalog(self.settings)
        ensure_tables(catalog, self.namespace, all_tables(tuple(VENUES)))
        return catalog

    def table(self, name: str) -> Table:
        """Load a table's newest state."""
        return self.catalog().load_table((self.namespace, name))

    def rows_of_day(self, spec: TableSpec, day: date, columns: tuple[str, ...]) -> pl.DataFrame:
        """Read some columns of one day of a table's newest state."""
        table = self.table(spec.name)
        of_day = time_between(spec.partition_by, *day_bounds_us(day)) if spec.partition_unit != "day" else ALL_ROWS
        return read_files(table, live_files(table, spec.partition_by, day=day), columns, of_day)
