"""Copies of an empty lake: making its eleven tables takes twenty times as long, and hundreds of tests need them."""

import atexit
import shutil
import sqlite3
import tempfile
from contextlib import closing
from functools import cache
from pathlib import Path

from k2_core.lake.catalog import ensure_tables, open_catalog
from k2_core.lake.tables import all_tables
from k2_core.settings import Settings


def copy_to(home: Path) -> None:
    """Make ``home`` a home whose catalog has every table of Binance, as :func:`ensure_tables` makes them."""
    original = _original()
    shutil.copytree(original, home, dirs_exist_ok=True)
    old, new = str(original), str(home)
    for metadata in home.rglob("*.metadata.json"):
        metadata.write_text(metadata.read_text().replace(old, new))
    with closing(sqlite3.connect(home / "catalog.db")) as connection, connection:
        connection.execute("UPDATE iceberg_tables SET metadata_location = replace(metadata_location, ?, ?)", (old, new))


@cache
def _original() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="k2-empty-lake-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    settings = Settings(home=folder)
    catalog = open_catalog(settings)
    ensure_tables(catalog, settings.catalog.namespace, all_tables(("binance",)))
    catalog.close()
    return folder
