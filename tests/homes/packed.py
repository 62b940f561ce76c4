"""Unpack a home that an earlier commit made and used. README.md beside this says how each was made."""

import json
import sqlite3
import tarfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fastavro

from k2_core.settings import Settings

FOLDER = Path(__file__).parent
FIRST = "1b8d083"
"""The first commit of which a home is kept."""

_MADE_IN = "/tmp/home-homes/home"  # noqa: S108  # a name in the packed files, not a place that is written to
_PATHS = {"manifest_path", "file_path"}


@dataclass(frozen=True)
class PackedHome:
    """A home as it was packed, in a folder of its own, and the facts that the commit that made it found in it."""

    home: Path
    facts: dict[str, dict[str, Any]]

    @property
    def settings(self) -> Settings:
        """Settings of that home."""
        return Settings(home=self.home)


def unpack(folder: Path, commit: str = FIRST) -> PackedHome:
    """Unpack a home into ``folder``; its files then name the folder in place of the one in which it was made.

    Iceberg's metadata and the catalog hold whole paths. A file is changed in nothing else.
    """
    with tarfile.open(FOLDER / f"{commit}.tar.xz") as packed:
        packed.extractall(folder, filter="data")
    home = folder / "home"
    for path in home.glob("warehouse/**/*.metadata.json"):
        path.write_text(path.read_text().replace(_MADE_IN, str(home)))
    lengths: dict[str, int] = {}
    for path in sorted(home.glob("warehouse/**/*.avro"), key=lambda path: path.name.startswith("snap-")):
        lengths[f"file://{path}"] = _move_manifest(path, home, lengths)
    with closing(sqlite3.connect(home / "catalog.db")) as catalog, catalog:
        for table, column in _texts(catalog):
            catalog.execute(f'UPDATE "{table}" SET "{column}" = replace("{column}", ?, ?)', (_MADE_IN, str(home)))  # noqa: S608  # names from the database's own schema
    return PackedHome(home, json.loads((FOLDER / f"{commit}.json").read_text()))


def _move_manifest(path: Path, home: Path, lengths: dict[str, int]) -> int:
    """Write a manifest or a list of manifests again, compressed as it was before it was packed; return its length."""
    with path.open("rb") as file:
        reader = fastavro.reader(file)
        header, schema = reader.metadata, reader.writer_schema
        records = [_moved(record, home, lengths) for record in reader]
    kept = {name: value for name, value in header.items() if not name.startswith("avro.")}
    with path.open("wb") as file:
        fastavro.writer(file, schema, records, codec="deflate", metadata=kept)
    return path.stat().st_size


def _moved(record: Any, home: Path, lengths: dict[str, int]) -> Any:
    if not isinstance(record, dict):
        return record
    moved = {
        name: value.replace(_MADE_IN, str(home)) if name in _PATHS else _moved(value, home, lengths)
        for name, value in record.items()
    }
    if "manifest_length" in moved:
        moved["manifest_length"] = lengths[moved["manifest_path"]]
    return moved


def _texts(database: sqlite3.Connection) -> list[tuple[str, str]]:
    tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    columns = [(table, row) for table in tables for row in database.execute(f'PRAGMA table_info("{table}")')]
    return [(table, name) for table, (_, name, kind, *_) in columns if not kind or "CHAR" in kind or "TEXT" in kind]
