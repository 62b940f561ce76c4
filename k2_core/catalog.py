"""Open the Iceberg catalog and make its tables. Rows are written by k2_assets.lake_writer alone."""

import fcntl
import sqlite3
from pathlib import Path

from pyiceberg.catalog import Catalog
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import NamespaceAlreadyExistsError, TableAlreadyExistsError
from sqlalchemy import make_url
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError

from k2_core.errors import SettingsError
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


def require_lake(settings: Settings) -> None:
    """Refuse a home, or a catalog's file, that is not there: opening it would make a new and empty lake.

    Raises:
        SettingsError: there is no such lake.
    """
    uri = make_url(settings.catalog_uri)
    file = uri.database if uri.get_backend_name() == "sqlite" else None
    if file is None or Path(file).is_file():
        return
    if settings.catalog.uri is None:
        msg = f"there is no lake in {settings.home}: set K2_HOME to the home of one, or start one with k2 up."
        raise SettingsError(msg)
    raise SettingsError(f"there is no lake's catalog at {file}: set K2_CATALOG__URI to that of one.")


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
