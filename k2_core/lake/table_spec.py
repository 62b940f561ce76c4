"""What a table is to its writers and readers: a TableSpec and its columns. Knows no table of ours."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import DayTransform, MonthTransform, Transform
from pyiceberg.types import IcebergType, ListType, MapType, NestedField, StringType

from k2_core.lake.manifests import PartitionUnit
from k2_core.timeframes import Timeframe

LIST_OF_TEXTS: Final = "list of strings"
MAP_OF_TEXTS: Final = "map of strings"

_TRANSFORMS: Final[dict[PartitionUnit, Transform[Any, Any]]] = {"day": DayTransform(), "month": MonthTransform()}
_METRICS: Final = "write.metadata.metrics"
_KEEP_SNAPSHOTS: Final = {
    "format-version": "2",
    # Bounds that are cut to 16 characters are counted up at their end, which some characters do not survive.
    f"{_METRICS}.default": "full",
    "write.parquet.compression-codec": "zstd",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "20",
    "commit.manifest-merge.enabled": "true",
    "commit.manifest.min-count-to-merge": "20",
    "commit.retry.num-retries": "0",
}
DRAINED: Final = {
    **_KEEP_SNAPSHOTS,
    "write.delete.isolation-level": "snapshot",
    "write.update.isolation-level": "snapshot",
}
"""Properties of a table that one writer appends to while another replaces files of it."""


def counted(*columns: str) -> dict[str, str]:
    """Return properties by which files say of ``columns`` how many values they have, and no bounds.

    For text that others write, however long: Parquet keeps no bounds beyond 4 kB, and those of a file that has them of
    some row groups only would be wrong.
    """
    return {f"{_METRICS}.column.{column}": "counts" for column in columns}


def uncounted(*columns: str) -> dict[str, str]:
    """Return properties by which files say nothing of the values of ``columns``."""
    return {f"{_METRICS}.column.{column}": "none" for column in columns}


@dataclass(frozen=True)
class Column:
    """One column. ``kind`` is an Iceberg type, or the name of a list or map of strings.

    A column that is not ``served`` is for writers of other tables, and in no answer of the API.
    """

    name: str
    kind: IcebergType | str
    doc: str
    required: bool = True
    served: bool = True


@dataclass(frozen=True)
class TableSpec:
    """Everything about one table that its writers and readers must agree on.

    Args:
        name: in the lake's namespace.
        doc: what a row is, in a sentence.
        columns: in order.
        partition_by: the column of time that partitions the table.
        properties: of the Iceberg table.
        sort_by: the order of rows in a file that maintenance has joined, as readers ask for them.
        made_from: the tables that its rows are computed from, by name. Assets depend on them, refine follows them, and
            their marks of rebuilt days are for this table.
        timeframe: of candles.
        partition_unit: what of ``partition_by`` makes a partition.
        retention_days: for how long a home with the ``rolling`` retention keeps a row after it was ingested; None:
            always, whatever the settings.
    """

    name: str
    doc: str
    columns: tuple[Column, ...]
    partition_by: str
    properties: dict[str, str] = field(default_factory=dict)
    sort_by: tuple[str, ...] = ()
    made_from: tuple[str, ...] = ()
    timeframe: Timeframe | None = None
    partition_unit: PartitionUnit = "day"
    retention_days: int | None = None

    @cached_property
    def schema(self) -> Schema:
        """The Iceberg schema; ids are given in order of the columns."""
        # Ids of elements, keys and values are far from those of columns, so that a new column does not move them.
        # pyiceberg gives ids of its own when it makes the table, and readers go by names.
        nested, fields = iter(range(1000, 2000)), []
        for index, column in enumerate(self.columns, 1):
            kind = column.kind
            if kind == LIST_OF_TEXTS:
                kind = ListType(next(nested), StringType(), element_required=True)
            elif kind == MAP_OF_TEXTS:
                kind = MapType(next(nested), StringType(), next(nested), StringType(), value_required=True)
            assert isinstance(kind, IcebergType)  # noqa: S101  # narrows the union
            fields.append(NestedField(index, column.name, kind, column.required, doc=column.doc))
        return Schema(*fields)

    @cached_property
    def served_columns(self) -> tuple[Column, ...]:
        """The columns that answers of the API have."""
        return tuple(column for column in self.columns if column.served)

    @cached_property
    def partition_spec(self) -> PartitionSpec:
        """Partitions of ``partition_by`` by ``partition_unit``."""
        source = self.schema.find_field(self.partition_by).field_id
        name = f"{self.partition_by}_{self.partition_unit}"
        return PartitionSpec(PartitionField(source, 5000, _TRANSFORMS[self.partition_unit], name))
