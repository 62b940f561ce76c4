"""Which schemas stand behind the ids in Kafka's messages, asked of the registry once each."""

from concurrent.futures import ThreadPoolExecutor
from typing import Final

from k2_assets.bronze.envelopes import WriterSchema, schema_ids
from k2_core.registry import Registry

_REGISTRYS_IDS: Final = range(1, 1 << 31)  # a header can hold others; no registry gives them, and some answer oddly
_AT_ONCE: Final = 8  # poison may hold an id of its own in every message: asked one after the other, they slow a drain


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
        pool = ThreadPoolExecutor(min(_AT_ONCE, len(new)), thread_name_prefix="schemas")
        try:
            for schema_id, text in zip(new, pool.map(self._text, new), strict=True):
                self._known[schema_id] = WriterSchema(text)
        finally:
            pool.shutdown(cancel_futures=True)  # of a registry that is gone nobody asks the rest

    def _text(self, schema_id: int) -> str | None:
        return self._registry.schema(schema_id) if schema_id in _REGISTRYS_IDS else None
