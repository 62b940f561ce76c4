"""Ask a part whether it serves. A probe returns what the part says of itself, or raises NotYet with the reason."""

from typing import Any, Final

import httpx
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from k2_core.registry import COMPATIBILITY

_TIMEOUT_S: Final = 2.0


class NotYet(Exception):  # the usual answer of a part that is starting, not an error of K2
    """The part does not serve yet; the text says why."""


def broker(bootstrap_servers: str) -> str:
    """Ask the broker for its cluster and topics."""
    admin = AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 0, "socket.timeout.ms": 2000})
    try:
        found = admin.list_topics(timeout=_TIMEOUT_S)
    except KafkaException as error:
        raise NotYet(error.args[0].str()) from None
    if not found.brokers:
        raise NotYet("no broker has joined the cluster")
    return ""


def registry(url: str) -> str:
    """Ask the registry for its subjects."""
    _get(f"{url}/subjects")
    return ""


def own_registry(url: str) -> str:
    """Ask the registry for its subjects, and see to it that schemas stay BACKWARD compatible: its default is NONE."""
    registry(url)
    if _get(f"{url}/config").get("compatibilityLevel") != COMPATIBILITY:
        _request("PUT", f"{url}/config", json={"compatibility": COMPATIBILITY})
    return ""


def _get(url: str) -> Any:  # whatever JSON the service speaks
    return _request("GET", url).json()


def _request(method: str, url: str, **arguments: Any) -> httpx.Response:
    try:
        answer = httpx.request(method, url, timeout=_TIMEOUT_S, trust_env=False, **arguments)
        answer.raise_for_status()
    except httpx.HTTPError as error:
        raise NotYet(str(error) or type(error).__name__) from None
    return answer
