"""The schema registry, through its Confluent-compatible API: register what we write, look up what we read."""

import json

import httpx
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from k2_core.errors import IncompatibleSchema, RegistryError

COMPATIBILITY = "BACKWARD"
_NOT_FOUND = 404
_CONFLICT = 409


class Registry:
    """The registry at ``url``."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._client = SchemaRegistryClient({"url": url, "timeout": 10, "max.retries": 1})

    def register(self, subject: str, schema: str) -> int:
        """Register ``schema`` under ``subject`` with BACKWARD compatibility, and return its id.

        Raises:
            IncompatibleSchema: with the registry's own reason.
            RegistryError: the registry refused for another reason, or did not answer.
        """
        try:
            self._client.set_compatibility(subject_name=subject, level=COMPATIBILITY)
            return int(self._client.register_schema(subject, Schema(schema, "AVRO")))
        except SchemaRegistryError as error:
            if error.http_status_code == _CONFLICT:
                msg = f"the registry refuses the schema of {subject}: {error.error_message}"
                raise IncompatibleSchema(msg) from None
            raise self._failed(f"register the schema of {subject}", error) from None
        except httpx.HTTPError as error:
            raise self._failed(f"register the schema of {subject}", error) from None

    def schema(self, schema_id: int) -> str | None:
        """Return the schema of an id as JSON; None when the registry does not know it.

        Raises:
            RegistryError: the registry did not answer.
        """
        try:
            return self._client.get_schema(schema_id).schema_str
        except SchemaRegistryError as error:
            if error.http_status_code == _NOT_FOUND:
                return None
            raise self._failed(f"look up schema {schema_id}", error) from None
        except httpx.HTTPError as error:
            raise self._failed(f"look up schema {schema_id}", error) from None

    def _failed(self, what: str, error: Exception) -> RegistryError:
        return RegistryError(f"the schema registry at {self.url} could not {what}: {error}")


def same_schema(one: str, other: str) -> bool:
    """Tell whether two Avro schemas say the same, whatever their white space, order of keys and docs."""
    return _without_docs(json.loads(one)) == _without_docs(json.loads(other))


def _without_docs(node: object) -> object:
    if isinstance(node, dict):
        return {key: _without_docs(value) for key, value in node.items() if key != "doc"}
    if isinstance(node, list):
        return [_without_docs(value) for value in node]
    return node
