"""Which schemas stand behind the ids in Kafka's messages, asked of the registry."""

from bisect import bisect_left
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from k2_assets.kafka.writer_schema import WriterSchema, schema_ids
from k2_core import clock
from k2_core.errors import RegistryError
from k2_core.registry import Registry

_NO_ID: Final = 1 << 31  # a header can hold larger numbers; no registry gives them, and some answer oddly
_AT_ONCE: Final = 8  # questions that are asked side by side
_QUESTIONS: Final = 200  # a registry of many subjects is not asked for its largest id
_LARGEST_S: Final = 60.0  # so long the answer serves
_UNLISTED: Final = 1_000  # so many ids above the largest may be good: given since, or of subjects that were deleted
_UNKNOWN: Final = WriterSchema(None)


class SchemaLookup:
    """Remembers the schemas that the registry has; of an id that it does not know it is asked again.

    Poison may name an id of its own in every message, and a question for each costs more than the message. Ids ascend:
    those far above the largest that there is were never given, and are not asked for.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._known: dict[int, WriterSchema] = {}
        self._end = _NO_ID
        self._end_serves_until = 0.0

    def of(self, values: list[bytes]) -> dict[int, WriterSchema]:
        """Return the schema of every id in ``values``.

        Raises:
            RegistryError: the registry did not answer.
        """
        found = schema_ids(values)
        if new := sorted(found - self._known.keys()):
            self._ask(new[: bisect_left(new, self._end_of_ids())])
        return {schema_id: self._known.get(schema_id, _UNKNOWN) for schema_id in found}

    def _ask(self, ids: list[int]) -> None:
        pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="schemas")
        try:
            for schema_id, text in zip(ids, pool.map(self._text, ids), strict=True):
                if text is not None:
                    self._known[schema_id] = WriterSchema(text)
        finally:
            pool.shutdown(cancel_futures=True)  # of a registry that is gone nobody asks the rest

    def _text(self, schema_id: int) -> str | None:
        return self._registry.schema(schema_id) if schema_id else None

    def _end_of_ids(self) -> int:
        """Return the first id that cannot be good."""
        if clock.monotonic() >= self._end_serves_until:
            largest = self._largest_id()
            self._end = _NO_ID if largest is None else min(largest + _UNLISTED + 1, _NO_ID)
            self._end_serves_until = clock.monotonic() + _LARGEST_S
        return self._end

    def _largest_id(self) -> int | None:
        try:
            return self._registry.largest_id(_QUESTIONS)
        except RegistryError:  # who may not list subjects may still look up ids
            return None
