"""What alerts remember: ``K2_HOME/run/alerts.db``, a SQLite file of its own. Loads neither Dagster nor apprise."""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from k2_assets.alerts.messages import Message
from k2_assets.alerts.transitions import Known

STORE: Final = "alerts.db"
_WAIT_S: Final = 5.0
_FIRST_PAUSE_S: Final = 10.0
_LAST_PAUSE_S: Final = 900.0
_TABLES: Final = """
    CREATE TABLE IF NOT EXISTS condition (key TEXT PRIMARY KEY, known BLOB NOT NULL);
    CREATE TABLE IF NOT EXISTS cursor (one INTEGER PRIMARY KEY CHECK (one = 1), position INT NOT NULL);
    CREATE TABLE IF NOT EXISTS outbox (
        id INTEGER PRIMARY KEY AUTOINCREMENT, target TEXT NOT NULL, message BLOB NOT NULL, queued_s REAL NOT NULL);
    CREATE TABLE IF NOT EXISTS target (
        id TEXT PRIMARY KEY, label TEXT, failures INT NOT NULL, again_s REAL NOT NULL, error TEXT, delivered_s REAL);
    CREATE TABLE IF NOT EXISTS look (
        one INTEGER PRIMARY KEY CHECK (one = 1), looked_s REAL NOT NULL, trouble TEXT NOT NULL);
"""


@dataclass(frozen=True)
class Target:
    """Where messages are sent, without its secret; times in seconds since 1970.

    Args:
        id: a digest of its URL.
        label: its service and host; None until a message was tried.
        failures: attempts that failed since the last one that succeeded.
        again_s: not before is the next attempt.
        error: why the last attempt failed; None when it succeeded.
        delivered_s: when the last message was delivered; None: none was yet.
        waiting: how many messages wait for it.
    """

    id: str
    label: str | None
    failures: int
    again_s: float
    error: str | None
    delivered_s: float | None
    waiting: int


@dataclass(frozen=True)
class Look:
    """The last successful look: when (seconds since 1970), and what it could not read."""

    looked_s: float
    trouble: str


class AlertStore:
    """An open store.

    Raises:
        sqlite3.Error: from any method, when the file cannot be read or written.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def known(self) -> dict[str, Known]:
        """Return all conditions by key."""
        rows = self._connection.execute("SELECT key, known FROM condition ORDER BY key")
        return {key: msgspec.json.decode(known, type=Known) for key, known in rows}

    def position(self) -> int:
        """Return how far Dagster's log was read."""
        row = self._connection.execute("SELECT position FROM cursor").fetchone()
        return int(row[0]) if row else 0

    def commit(self, known: Mapping[str, Known], position: int, messages: Sequence[Message], look: Look) -> None:
        """Store a look's results and queue its messages for every target, all of it or nothing."""
        old = dict(self._connection.execute("SELECT key, known FROM condition").fetchall())
        new = {key: msgspec.json.encode(each) for key, each in known.items()}
        with self._connection as changing:
            changing.executemany("DELETE FROM condition WHERE key = ?", [(key,) for key in old.keys() - new.keys()])
            changed = [(key, each) for key, each in new.items() if old.get(key) != each]
            changing.executemany("INSERT OR REPLACE INTO condition VALUES (?, ?)", changed)
            changing.execute("INSERT OR REPLACE INTO cursor VALUES (1, ?)", (position,))
            for message in messages:
                changing.execute(
                    "INSERT INTO outbox (target, message, queued_s) SELECT id, ?, ? FROM target",
                    (msgspec.json.encode(message), look.looked_s),
                )
            changing.execute("INSERT OR REPLACE INTO look VALUES (1, ?, ?)", (look.looked_s, look.trouble))

    def set_targets(self, ids: Sequence[str]) -> None:
        """Store which targets there are; what waited for others is dropped, since nobody can send it."""
        if set(ids) == {each for (each,) in self._connection.execute("SELECT id FROM target")}:
            return
        with self._connection as changing:
            marks = ",".join("?" * len(ids))
            changing.execute(f"DELETE FROM target WHERE id NOT IN ({marks})", ids)  # noqa: S608  # only question marks
            changing.execute(f"DELETE FROM outbox WHERE target NOT IN ({marks})", ids)  # noqa: S608  # only question marks
            rows = [(each, 0, 0.0) for each in ids]
            changing.executemany("INSERT OR IGNORE INTO target (id, failures, again_s) VALUES (?, ?, ?)", rows)

    def targets(self) -> list[Target]:
        """Return the targets in the order of their ids."""
        rows = self._connection.execute(
            "SELECT id, label, failures, again_s, error, delivered_s,"
            " (SELECT COUNT(*) FROM outbox WHERE outbox.target = target.id) FROM target ORDER BY id"
        )
        return [Target(*row) for row in rows]

    def waiting(self, target: str) -> Iterator[tuple[int, Message]]:
        """Yield the messages that wait for a target, oldest first."""
        rows = self._connection.execute("SELECT id, message FROM outbox WHERE target = ? ORDER BY id", (target,))
        for number, message in rows.fetchall():
            yield number, msgspec.json.decode(message, type=Message)

    def waiting_keys(self) -> set[str]:
        """Return the conditions that messages which wait report."""
        rows = self._connection.execute("SELECT DISTINCT message FROM outbox")
        return {key for (message,) in rows for key in msgspec.json.decode(message, type=Message).keys}

    def delivered(self, number: int, target: str, label: str, now_s: float) -> None:
        """Remove a message that a target has taken."""
        with self._connection as changing:
            changing.execute("DELETE FROM outbox WHERE id = ?", (number,))
            changing.execute(
                "UPDATE target SET label = ?, failures = 0, again_s = 0, error = NULL, delivered_s = ? WHERE id = ?",
                (label, now_s, target),
            )

    def failed(self, target: Target, label: str, error: str, now_s: float) -> None:
        """Store that an attempt failed; the next is due after a pause that doubles, up to a quarter of an hour."""
        pause_s = min(_FIRST_PAUSE_S * 2.0 ** min(target.failures, 10), _LAST_PAUSE_S)
        with self._connection as changing:
            changing.execute(
                "UPDATE target SET label = ?, failures = failures + 1, again_s = ?, error = ? WHERE id = ?",
                (label, now_s + pause_s, error, target.id),
            )

    def look(self) -> Look | None:
        """Return the last successful look; None before the first."""
        row = self._connection.execute("SELECT looked_s, trouble FROM look").fetchone()
        return Look(*row) if row else None


@contextmanager
def opened(home: Path) -> Iterator[AlertStore]:
    """Open the store of a home to look and to send. Creates it."""
    file = home / "run" / STORE
    file.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(file, timeout=_WAIT_S)) as connection:
        if not connection.execute("PRAGMA user_version").fetchone()[0]:
            connection.executescript(f"{_TABLES} PRAGMA user_version = 1;")
        yield AlertStore(connection)


@contextmanager
def opened_to_read(home: Path) -> Iterator[AlertStore | None]:
    """Open the store of a home to read; None when there is none yet. Creates nothing."""
    file = home / "run" / STORE
    if not file.exists():
        yield None
        return
    with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True, timeout=_WAIT_S)) as connection:
        yield AlertStore(connection)
