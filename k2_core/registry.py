"""The schema registry, through its Confluent-compatible API: register what we write, look up what we read."""

import json
from collections.abc import Callable
from typing import Self, TypeVar

import httpx2  # what the client of the registry speaks HTTP with, and whose errors it lets through
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from k2_core.errors import IncompatibleSchema, RegistryError
from k2_core.proxies import proxy_for

COMPATIBILITY = "BACKWARD"
_NOT_FOUND = {40401, 40402, 40403}  # subject, version, schema; a bare 404 is not the registry's own
_CONFLICT = 409

Answer = TypeVar("Answer")


class Registry:
    """The registry at ``url``; its connections last until :meth:`close`, or the end of a ``with`` block.

    Raises:
        SettingsError: the registry is to be asked through a proxy of the environment that cannot be used.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._client = _client(url)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections to the registry."""
        self._client.close()

    def register(self, subject: str, schema: str) -> int:
        """Register ``schema`` under ``subject`` with BACKWARD compatibility, and return its id.

        Raises:
            IncompatibleSchema: with the registry's own reason, or ours (:func:`forbidden_change`).
            RegistryError: the registry refused for another reason, or did not answer.
        """
        before = self.latest(subject)
        change = forbidden_change(before, schema) if before is not None else None
        if change is not None:
            msg = f"the schema of {subject} would break what was already written: {change}"
            raise IncompatibleSchema(msg)
        try:
            self._client.set_compatibility(subject_name=subject, level=COMPATIBILITY)
            return int(self._client.register_schema(subject, Schema(schema, "AVRO")))
        except SchemaRegistryError as error:
            if error.http_status_code == _CONFLICT:
                msg = f"the registry refuses the schema of {subject}: {error.error_message}"
                raise IncompatibleSchema(msg) from None
            raise self._failed(f"register the schema of {subject}", error) from None
        except httpx2.HTTPError as error:
            raise self._failed(f"register the schema of {subject}", error) from None

    def schema(self, schema_id: int) -> str | None:
        """Return the schema of an id as JSON; None when the registry does not know it.

        Raises:
            RegistryError: the registry did not answer.
        """
        return self._found(f"look up schema {schema_id}", lambda: self._client.get_schema(schema_id).schema_str)

    def latest(self, subject: str) -> str | None:
        """Return the newest schema of a subject as JSON; None when it has none.

        Raises:
            RegistryError: the registry did not answer.
        """
        what = f"look up the schema of {subject}"
        return self._found(what, lambda: self._client.get_latest_version(subject).schema.schema_str)

    def _found(self, what: str, ask: Callable[[], Answer]) -> Answer | None:
        """Return the registry's answer; None when it does not have what it was asked for."""
        try:
            return ask()
        except SchemaRegistryError as error:
            if error.error_code in _NOT_FOUND:
                return None
            raise self._failed(what, error) from None
        except httpx2.HTTPError as error:
            raise self._failed(what, error) from None

    def _failed(self, what: str, error: Exception) -> RegistryError:
        return RegistryError(f"the schema registry at {self.url} could not {what}: {error}")


def _client(url: str) -> SchemaRegistryClient:
    """Return a client that asks through the proxy of :func:`proxy_for`; its own reading of them has no switch."""
    first = url.partition(",")[0].strip()  # of several, which the client asks in turn
    try:
        proxy = proxy_for(first)
    except ValueError:  # no URL, as the client then says
        proxy = None
    configuration = {"url": url, "timeout": 10, "max.retries": 1, "proxy": proxy or first}
    secure = "https:" in url
    if proxy is None and not secure:
        configuration["ssl.ca.location"] = False  # reading the authorities takes 50 ms of CPU, for nothing here
    client = SchemaRegistryClient(configuration)
    if proxy is None:
        rest = client._rest_client  # noqa: SLF001  # see above
        rest.session.close()
        transport = httpx2.HTTPTransport(verify=secure)
        rest.session = httpx2.Client(auth=rest.auth, timeout=rest.timeout, transport=transport)
    return client


def same_schema(one: str, other: str) -> bool:
    """Tell whether two Avro schemas say the same, whatever their white space, order of keys and docs."""
    return _without_docs(json.loads(one)) == _without_docs(json.loads(other))


def _without_docs(node: object) -> object:
    if isinstance(node, dict):
        return {key: _without_docs(value) for key, value in node.items() if key != "doc"}
    if isinstance(node, list):
        return [_without_docs(value) for value in node]
    return node


def forbidden_change(old: str, new: str) -> str | None:
    """Say which change from ``old`` to ``new`` would misread old bytes though a registry lets it pass; None if none.

    A registry judges by Avro's rules of resolution alone, and by those a decimal may change its scale and bytes may
    become a string: old values would then be read without an error, and wrongly.
    """
    # Fields that were added or removed are the registry's to judge: only those of both schemas can be misread.
    before, after = _leaves(json.loads(old), ""), _leaves(json.loads(new), "")
    for path in before.keys() & after.keys():
        was, becomes = before[path], after[path]
        if was[1:] != becomes[1:] or {was[0], becomes[0]} == {"bytes", "string"}:
            return f"field {path} was {_spell(was)} and would become {_spell(becomes)}"
    return None


_Leaf = tuple[object, object, object, object]  # type, logical type, precision, scale


def _leaves(node: object, path: str) -> dict[str, _Leaf]:
    if isinstance(node, list):
        branches = [branch for branch in node if branch != "null"]
        found: dict[str, _Leaf] = {}
        for branch in branches:
            name = branch.get("name") or branch.get("type") if isinstance(branch, dict) else branch
            found |= _leaves(branch, path if len(branches) == 1 else f"{path}|{name}")
        return found
    if not isinstance(node, dict):
        return {path: (node, None, None, None)}
    # Either a type with attributes, such as a logical type, or only braces around another type.
    inner = node.get("type")
    if inner == "record":
        leaves = [_leaves(field["type"], f"{path}.{field['name']}".lstrip(".")) for field in node["fields"]]
        return {key: leaf for found in leaves for key, leaf in found.items()}
    if inner in _CONTAINERS:
        return _leaves(node[_CONTAINERS[inner]], f"{path}[]")
    if isinstance(inner, dict | list):
        return _leaves(inner, path)
    return {path: (inner, node.get("logicalType"), node.get("precision"), node.get("scale"))}


_CONTAINERS = {"array": "items", "map": "values"}


def _spell(leaf: _Leaf) -> str:
    kind, logical, precision, scale = leaf
    if logical is None:
        return str(kind)
    return f"{kind} as {logical}" + (f"({precision},{scale})" if logical == "decimal" else "")
