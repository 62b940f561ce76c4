"""Open the Iceberg catalog and make its tables. Rows are written by k2_assets.lake_writer alone."""

import sqlite3
from pathlib import Path

from pyiceberg.catalog import Catalog
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import NamespaceAlreadyExistsError, TableAlreadyExistsError

from k2_core.settings import Settings
from k2_core.tables import TableSpec

CATALOG_NAME = "k2"


def open_catalog(settings: Settings) -> Catalog:
    """Open the catalog that the settings name, and make it if it is SQLite and does not exist yet."""
    if settings.catalog.uri is None:
        settings.home.mkdir(parents=True, exist_ok=True)
        _prepare_sqlite(settings.home / "catalog.db")
    return SqlCatalog(
        CATALOG_NAME,
        uri=settings.catalog_uri,
        warehouse=settings.warehouse,
        **settings.catalog.properties,
    )


def ensure_tables(catalog: Catalog, namespace: str, specs: list[TableSpec]) -> None:
    """Make the namespace and the tables that do not exist yet."""
    try:
        catalog.create_namespace(namespace)
    except NamespaceAlreadyExistsError:
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
    """Switch to write-ahead logging, which the file remembers: readers then never wait for a writer."""
    with sqlite3.connect(path, timeout=30) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
    connection.close()
