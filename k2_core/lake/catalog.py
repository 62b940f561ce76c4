"""Open the Iceberg catalog, and make its tables as their specs say. k2_assets.lake alone writes rows."""

import fcntl
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

from pyiceberg.catalog import Catalog
from pyiceberg.catalog.sql import IcebergTables, SqlCatalog
from sqlalchemy import Column, Engine, Integer, MetaData, Table, create_engine, inspect, make_url, select, text
from sqlalchemy.exc import IntegrityError

from k2_core import home_format
from k2_core.errors import NewerHome, SettingsError
from k2_core.lake.caching_catalog import LakeCatalog
from k2_core.lake.table_changes import Change, apply_changes, properties_of
from k2_core.lake.table_spec import TableSpec
from k2_core.made_once import ensure_table, made_once
from k2_core.settings import Settings

CATALOG_NAME = "k2"
_FORMATS = Table("k2_format", MetaData(), Column("format", Integer, primary_key=True))


def open_catalog(settings: Settings) -> Catalog:
    """Open the catalog that the settings name, and make it if it is SQLite and does not exist yet.

    Raises:
        NewerHome: this K2 does not know the format of what is there.
    """
    if settings.catalog.uri is None:
        settings.home.mkdir(parents=True, exist_ok=True)
        # Write-ahead logging, which the file remembers: readers then never wait for a writer. One process at a time
        # switches to it: SQLite does not wait for another that is switching, but says "database is locked".
        with (settings.home / "catalog.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with closing(sqlite3.connect(settings.home / "catalog.db", timeout=30)) as connection:
                connection.execute("PRAGMA journal_mode=WAL")
    properties = {"uri": settings.catalog_uri, "warehouse": settings.warehouse, **settings.catalog.properties}
    catalog = made_once(lambda: LakeCatalog(CATALOG_NAME, **properties), things=2)  # its two tables
    try:
        home_format.require_known(format_of(catalog), str(settings.home))
    except NewerHome:
        catalog.close()
        raise
    return catalog


def pointers(catalog: Catalog, namespace: str, name: str | None = None) -> dict[str, str]:
    """Return where the newest metadata of each table is, or of the named one; empty in a catalog that is not SQL's.

    Raises:
        SQLAlchemyError: the catalog cannot be read.
    """
    if not isinstance(catalog, SqlCatalog):
        return {}
    asked = select(IcebergTables.table_name, IcebergTables.metadata_location).where(
        IcebergTables.catalog_name == catalog.name,
        IcebergTables.table_namespace == namespace,
        *([] if name is None else [IcebergTables.table_name == name]),
    )
    with catalog.engine.connect() as connection:
        return {table: location for table, location in connection.execute(asked) if location}


def require_lake(settings: Settings) -> None:
    """Refuse a home, or a catalog, that is not there: opening it would make a new and empty lake.

    Raises:
        SettingsError: there is no such lake.
        SQLAlchemyError: the user's own database does not answer.
        NewerHome: this K2 does not know its format.
    """
    home_format.require_known_home(settings)
    if has_lake(settings):
        return
    if settings.catalog.uri is None:
        msg = f"there is no lake in {settings.home}: set K2_HOME to the home of one, or start one with k2 up."
        raise SettingsError(msg)
    uri = make_url(settings.catalog_uri)
    place = uri.database if uri.get_backend_name() == "sqlite" else uri.set(query={}).render_as_string()
    raise SettingsError(f"there is no lake's catalog at {place}: set K2_CATALOG__URI to that of one.")


def has_lake(settings: Settings) -> bool:
    """Tell whether the catalog that the settings name has been made. Makes nothing.

    Raises:
        SQLAlchemyError: the user's own database does not answer.
    """
    uri = make_url(settings.catalog_uri)
    if uri.get_backend_name() == "sqlite" and not Path(uri.database or "").is_file():
        return False
    if settings.catalog.uri is None:
        return True
    engine = create_engine(uri)
    try:
        return inspect(engine).has_table(IcebergTables.__tablename__)
    finally:
        engine.dispose()


def ensure_tables(catalog: Catalog, namespace: str, specs: list[TableSpec]) -> dict[str, list[Change]]:
    """Make the namespace and the tables that do not exist yet, and the small changes of those that do.

    Safe beside writers and beside itself. Nothing is committed where nothing differs.

    Returns:
        By table, what else differs from its spec.

    Raises:
        CommitConflict: other writers of a table were first again and again.
    """
    made_once(lambda: catalog.create_namespace_if_not_exists(namespace))
    # The catalog carries the number of this K2's format: an earlier K2 then refuses what is changed hereafter.
    if format_of(catalog) < home_format.FORMAT:
        engine = _engine_of(catalog)
        ensure_table(engine, _FORMATS)
        with suppress(IntegrityError), engine.begin() as connection:
            connection.execute(_FORMATS.insert().values(format=home_format.FORMAT))
    existing = {name for _, name in catalog.list_tables(namespace)}
    for spec in specs:
        if spec.name not in existing:
            name, properties = (namespace, spec.name), properties_of(spec)
            catalog.create_table_if_not_exists(
                name, spec.schema, partition_spec=spec.partition_spec, properties=properties
            )
    existing_specs = [spec for spec in specs if spec.name in existing]
    left = {spec.name: change_table(catalog, namespace, spec, lambda change: change.small) for spec in existing_specs}
    return {name: changes for name, changes in left.items() if changes}


def change_table(catalog: Catalog, namespace: str, spec: TableSpec, wanted: Callable[[Change], bool]) -> list[Change]:
    """Make the wanted changes of a table; return what then still differs. See :func:`apply_changes`."""
    return apply_changes(lambda: catalog.load_table((namespace, spec.name)), spec, wanted)


def format_of(catalog: Catalog) -> int:
    """Return the number of the format that the catalog carries; 0 when it was made before there were numbers."""
    engine = _engine_of(catalog)
    if not inspect(engine).has_table(_FORMATS.name):
        return home_format.BEFORE_NUMBERS
    with engine.connect() as connection:
        found = connection.execute(text(home_format.NEWEST)).scalar()
    return home_format.BEFORE_NUMBERS if found is None else int(found)


def _engine_of(catalog: Catalog) -> Engine:
    assert isinstance(catalog, SqlCatalog)  # noqa: S101  # the only kind that open_catalog opens
    return catalog.engine
