"""The vector of next offsets that a drained table carries, written in the same commit as its rows.

It is kept as JSON, ``{topic id: {partition: next offset}}``, in the snapshot's summary and in the table's properties:
the second survives the expiry of snapshots.
"""

import json
from collections.abc import Mapping
from typing import Final

PROPERTY: Final = "k2.offsets"


class Offsets:
    """An immutable vector {(topic id, partition) → next offset}."""

    __slots__ = ("_next",)

    def __init__(self, following: Mapping[tuple[str, int], int] | None = None) -> None:
        self._next = dict(following or {})

    @classmethod
    def from_properties(cls, properties: Mapping[str, str]) -> "Offsets":
        """Read the vector from a table's properties; empty when there is none yet."""
        # A topic that was deleted and made again has another id: its offsets are kept beside those of the old one.
        stored = json.loads(properties.get(PROPERTY, "{}"))
        return cls({(topic, int(part)): offset for topic, parts in stored.items() for part, offset in parts.items()})

    def to_properties(self) -> dict[str, str]:
        """Return the property that carries this vector."""
        topics: dict[str, dict[str, int]] = {}
        for (topic, part), offset in sorted(self._next.items()):
            topics.setdefault(topic, {})[str(part)] = offset
        return {PROPERTY: json.dumps(topics, separators=(",", ":"))}

    def get(self, topic_id: str, partition: int) -> int | None:
        """Return the next offset of a partition; None when nothing of it was ever committed."""
        return self._next.get((topic_id, partition))

    def items(self) -> list[tuple[tuple[str, int], int]]:
        """Return ((topic id, partition), next offset) in order."""
        return sorted(self._next.items())

    def only(self, keys: "set[tuple[str, int]]") -> "Offsets":
        """Return the vector of those partitions alone."""
        return Offsets({key: offset for key, offset in self._next.items() if key in keys})

    def advanced(self, other: "Offsets") -> "Offsets":
        """Return this vector with the partitions of ``other`` set to what ``other`` says."""
        return Offsets(dict(self.items()) | dict(other.items()))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Offsets) and self._next == other._next

    def __hash__(self) -> int:
        return hash(tuple(self.items()))

    def __bool__(self) -> bool:
        return bool(self._next)

    def __repr__(self) -> str:
        return f"Offsets({self._next})"
