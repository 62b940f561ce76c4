"""Which schemas stand behind the ids in Kafka's messages, asked of the registry once each."""

from k2_assets.bronze.envelopes import WriterSchema, schema_ids
from k2_core.registry import Registry

_REGISTRYS_IDS = range(1, 1 << 31)  # a header can hold others; no registry gives them, and some answer oddly


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
        for schema_id in found - self._known.keys():
            text = self._registry.schema(schema_id) if schema_id in _REGISTRYS_IDS else None
            self._known[schema_id] = WriterSchema(text)
        return {schema_id: self._known[schema_id] for schema_id in found}
