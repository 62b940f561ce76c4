"""Look up the schemas of the ids in Kafka's messages in the registry."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from k2_assets.kafka.writer_schema import WriterSchema, schema_id_counts
from k2_core import clock
from k2_core.registry import Registry

_NO_ID: Final = 1 << 31  # a header can hold larger numbers; no registry gives them, and some answer oddly
_AT_ONCE: Final = 8  # questions that are asked side by side
_ENOUGH: Final = 250  # after so many ids that the registry does not know, larger ones are not asked for
_REMEMBERED_S: Final = 60.0
_UNKNOWN: Final = WriterSchema(None)


class SchemaLookup:
    """Remembers the schemas that the registry has; asks for an unknown id again, after a minute at most."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._known: dict[int, WriterSchema] = {}
        self._unknown: set[int] = set()
        self._remembered_until = 0.0
        self._one_at_a_time = threading.Lock()  # a lane asks in its own thread, and where a commit looks for faults

    def of(self, values: list[bytes]) -> dict[int, WriterSchema]:
        """Return the schema of every id in ``values``.

        Raises:
            RegistryError: the registry did not answer.
        """
        found = schema_id_counts(values)
        if new := {schema_id: count for schema_id, count in found.items() if schema_id not in self._known}:
            with self._one_at_a_time:
                self._ask(Counter(new))
        return {schema_id: self._known.get(schema_id, _UNKNOWN) for schema_id in found}

    def _ask(self, new: Counter[int]) -> None:
        if clock.monotonic() >= self._remembered_until:
            self._unknown.clear()
            self._remembered_until = clock.monotonic() + _REMEMBERED_S
        # Bad messages may each name an id of their own, and a question costs more than a message. Good frames name one
        # id again and again: the ids that most messages name are always asked for. The others are asked for in
        # ascending order, as registries give them, and once 250 above the largest good one turned out unknown, larger
        # ones count as unknown.
        pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="schemas")
        try:
            self._ask_for([schema_id for schema_id, _ in new.most_common(_AT_ONCE) if 0 < schema_id < _NO_ID], pool)
            ids = sorted(new.keys() - self._known.keys() - self._unknown)
            for first in range(0, len(ids), _AT_ONCE):
                largest = max(self._known, default=0)
                beyond = sorted(schema_id for schema_id in self._unknown if schema_id > largest)
                end = beyond[_ENOUGH] if len(beyond) > _ENOUGH else _NO_ID
                some = [schema_id for schema_id in ids[first : first + _AT_ONCE] if 0 < schema_id < end]
                if not some:
                    return
                self._ask_for(some, pool)
        finally:
            pool.shutdown(cancel_futures=True)  # when a registry is gone, nobody asks for the rest

    def _ask_for(self, ids: list[int], pool: ThreadPoolExecutor) -> None:
        for schema_id, text in zip(ids, pool.map(self._registry.schema, ids), strict=True):
            if text is None:
                self._unknown.add(schema_id)
            else:
                self._known[schema_id] = WriterSchema(text)
                self._unknown.discard(schema_id)
