"""Which schemas stand behind the ids in Kafka's messages, asked of the registry once each."""

from bisect import bisect_right
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from k2_assets.bronze.envelopes import WriterSchema, schema_ids
from k2_core.registry import Registry

_REGISTRYS_IDS: Final = range(1, 1 << 31)  # a header can hold others; no registry gives them, and some answer oddly
_AT_ONCE: Final = 8  # questions that are asked side by side
_FEW: Final = 16  # of more new ids at once nearly all are poison
_DELETED: Final = 1_000  # so many of the latest schemas may be deleted, and still be told to whoever names their ids


class SchemaLookup:
    """Caches what the registry says; an id it does not know stays unknown while this object lives."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._known: dict[int, WriterSchema] = {}

    def of(self, values: list[bytes]) -> dict[int, WriterSchema]:
        """Return the schema of every id in ``values``.

        Raises:
            RegistryError: the registry did not answer.
        """
        found = schema_ids(values)
        if new := sorted(found - self._known.keys()):
            self._ask(new)
        return {schema_id: self._known[schema_id] for schema_id in found}

    def _ask(self, new: list[int]) -> None:
        """Ask for each of a few. Of many, those far above the largest id there is were never given: ids ascend.

        Who wrote an id that is good registered its schema before, so that what is asked after reading it knows of it.
        """
        if len(new) > _FEW and (largest := self._registry.largest_id(len(new) // 2)) is not None:
            given = bisect_right(new, largest + _DELETED)
            self._known.update((schema_id, WriterSchema(None)) for schema_id in new[given:])
            new = new[:given]
        pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="schemas")
        try:
            for schema_id, text in zip(new, pool.map(self._text, new), strict=True):
                self._known[schema_id] = WriterSchema(text)
        finally:
            pool.shutdown(cancel_futures=True)  # of a registry that is gone nobody asks the rest

    def _text(self, schema_id: int) -> str | None:
        return self._registry.schema(schema_id) if schema_id in _REGISTRYS_IDS else None
