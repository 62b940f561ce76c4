"""Marks on days whose rows a rebuild has replaced: the layer above then replaces the day too, instead of adding to it.

A source marks a day with a token in the commit that replaces its rows; a derived table remembers, in its own commits,
which token it has taken in. Both forget what the other no longer needs, so that the properties stay small.
"""

import json
import uuid
from collections.abc import Iterable, Mapping
from datetime import date
from typing import Final

from pyiceberg.table import Table

REBUILT: Final = "k2.rebuilt"
TAKEN: Final = "k2.rebuilt_taken"


def marks(source: Table) -> dict[str, str]:
    """Return the marked days of a table: {day: token}."""
    stored: dict[str, str] = json.loads(source.properties.get(REBUILT, "{}"))
    return stored


def marked(source: Table, days: Iterable[date], derived: Iterable[Table]) -> dict[str, str]:
    """Return the property that gives ``days`` new marks, without those that all of ``derived`` have taken in."""
    taken = [Taken.of(each) for each in derived]
    open_marks = {
        day: token for day, token in marks(source).items() if not all(each.has(source, day, token) for each in taken)
    }
    new = {day.isoformat(): uuid.uuid4().hex[:12] for day in days}
    return {REBUILT: _json(open_marks | new)}


class Taken:
    """Which marks of its sources a derived table has taken in: {source table's UUID: {day: token}}."""

    def __init__(self, tokens: Mapping[str, Mapping[str, str]]) -> None:
        self._tokens = {uuid_: dict(of) for uuid_, of in tokens.items()}

    @classmethod
    def of(cls, derived: Table) -> "Taken":
        return cls(json.loads(derived.properties.get(TAKEN, "{}")))

    def has(self, source: Table, day: str, token: str) -> bool:
        return self._tokens.get(str(source.metadata.table_uuid), {}).get(day) == token

    def of_day(self, day: date) -> dict[str, str]:
        """Return the marks of a day that were taken in: {source table's UUID: token}."""
        return {uuid_: of[day.isoformat()] for uuid_, of in self._tokens.items() if day.isoformat() in of}

    def behind(self, source: Table) -> set[date]:
        """Return the days that ``source`` marks and that were not taken in since."""
        return {date.fromisoformat(day) for day, token in marks(source).items() if not self.has(source, day, token)}

    def with_day(self, source: Table, day: date) -> "Taken":
        """Return this memory with ``day`` taken in as ``source`` marks it, without what it no longer marks."""
        current = marks(source)
        tokens = {name: token for name, token in current.items() if self.has(source, name, token)}
        if token := current.get(day.isoformat()):
            tokens[day.isoformat()] = token
        source_uuid = str(source.metadata.table_uuid)
        others = {uuid_: of for uuid_, of in self._tokens.items() if uuid_ != source_uuid}
        return Taken({**others, source_uuid: tokens} if tokens else others)

    def to_properties(self) -> dict[str, str]:
        """Return the property that carries this memory."""
        return {TAKEN: _json(self._tokens)}


def _json(value: Mapping[str, object]) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True)
