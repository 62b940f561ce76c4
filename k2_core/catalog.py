"""Open the Iceberg catalog and make its tables. Rows are written by k2_assets.lake_writer alone."""

import fcntl
import sqlite3
from pathlib import Path

from pyiceberg.catalog import Catalog
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import NamespaceAlreadyExistsError, TableAlreadyExistsError
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError

from k2_core.settings import Settings
from k2_core.table_spec import TableSpec

CATALOG_NAME = "k2"
_TABLES_OF_A_CATALOG = 2


def open_catalog(settings: Settings) -> Catalog:
    """Open the catalog that the settings name, and make it if it is SQLite and does not exist yet."""
    if settings.catalog.uri is None:
        settings.home.mkdir(parents=True, exist_ok=True)
        _prepare_sqlite(settings.home / "catalog.db")
    properties = {"uri": settings.catalog_uri, "warehouse": settings.warehouse, **settings.catalog.properties}
    for _ in range(_TABLES_OF_A_CATALOG):
        try:
            return SqlCatalog(CATALOG_NAME, **properties)
        except (IntegrityError, OperationalError, ProgrammingError):
            continue  # another process made one of the catalog's own tables at the same moment: now it is there
    return SqlCatalog(CATALOG_NAME, **properties)


def ensure_tables(catalog: Catalog, namespace: str, specs: list[TableSpec]) -> None:
    """Make the namespace and the tables that do not exist yet."""
    try:
        catalog.create_namespace(namespace)
    except (NamespaceAlreadyExistsError, IntegrityError):  # the second: another process was first
        pass
    existing = {name for _, name in catalog.list_tables(namespace)}
    for spec in specs:
        if spec.name not in existing:
            _create(catalog, namespace, spec)


def _create(catalog: Catalog, namespace: str, spec: TableSpec) -> None:
    properties = {**spec.properties, "comment": spec.doc}
    try:
        catalog.create_table(
            (namespace, spec.name), spec.schema, partition_spec=spec.partition_spec, properties=properties
        )
    except TableAlreadyExistsError:  # another process was first
        return


def _prepare_sqlite(path: Path) -> None:
    """Switch to write-ahead logging, which the file remembers: readers then never wait for a writer.

    One process at a time: SQLite does not wait for another that is switching, but says "database is locked".
    """
    with path.with_suffix(".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        connection = sqlite3.connect(path, timeout=30)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.close()
