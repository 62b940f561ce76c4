"""Ask a part whether it serves. A probe returns the part's own message, or raises NotYet with the reason."""

from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import httpx
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from k2_core import clock
from k2_core.registry import COMPATIBILITY

_TIMEOUT_S: Final = 2.0
_NO_HEARTBEAT_S: Final = 120.0
_LOCATIONS: Final = """{ workspaceOrError { __typename ... on Workspace { locationEntries {
    name locationOrLoadError { __typename ... on PythonError { message } } } } } }"""
_DAEMONS: Final = """{ instance { daemonHealth { allDaemonStatuses {
    daemonType required healthy lastHeartbeatTime } } } }"""


@dataclass(frozen=True)
class Answer:
    """The answer of a part that serves, with its own message. ``trouble``: the message is a warning."""

    message: str = ""
    trouble: bool = False


class NotYet(Exception):  # the usual answer of a part that is starting, not an error of K2
    """The part does not serve yet; the text is the reason."""


class Silent(NotYet):
    """The part gave no sign of life at all. An error, or a message that it waits, is a sign of life."""


def broker(bootstrap_servers: str) -> Answer:
    """Ask the broker for its cluster and topics."""
    admin = AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 0, "socket.timeout.ms": 2000})
    try:
        found = admin.list_topics(timeout=_TIMEOUT_S)
    except KafkaException as error:
        raise Silent(error.args[0].str()) from None
    if not found.brokers:
        raise NotYet("no broker has joined the cluster")
    return Answer()


def registry(url: str) -> Answer:
    """Ask the registry for its subjects."""
    _get(f"{url}/subjects")
    return Answer()


def own_registry(url: str) -> Answer:
    """Ask the registry for its subjects, and make it require BACKWARD compatibility: its default is NONE."""
    registry(url)
    if _get(f"{url}/config").get("compatibilityLevel") != COMPATIBILITY:
        _request("PUT", f"{url}/config", json={"compatibility": COMPATIBILITY})
    return Answer()


def simulator(port: int) -> Answer:
    """Ask the simulator what it plays, how far it has come, and whether frames of a recording reached nobody."""
    status = _get(f"http://127.0.0.1:{port}/status")
    return Answer(str(status.get("message") or ""), trouble=bool(status.get("trouble")))


def simulated_venues(port: int) -> dict[str, list[str]]:
    """Return the symbols of each venue that the simulator simulates."""
    venues = _get(f"http://127.0.0.1:{port}/status")["venues"]
    return {str(venue): [str(symbol) for symbol in symbols] for venue, symbols in venues.items()}


def feed(port: int, otherwise: str = "") -> Answer:
    """Ask the feed for its connections. Without one it still serves; ``otherwise`` is then added to its message."""
    health = _get(f"http://127.0.0.1:{port}/health", any_status=True)
    message, connected = str(health.get("message") or ""), bool(health.get("connected"))
    return Answer(message if connected or not otherwise else f"{message}; {otherwise}", trouble=not connected)


def feed_symbols(port: int) -> dict[str, list[str]]:
    """Return the symbols of each venue that the feed subscribes to, in the venue's spelling."""
    venues = _get(f"http://127.0.0.1:{port}/health", any_status=True)["venues"]
    return {str(venue): [str(symbol) for symbol in state["symbols"]] for venue, state in venues.items()}


def dagster_code(port: int) -> Answer:
    """Ask the code server by gRPC's own health protocol."""
    import grpc  # noqa: PLC0415  # only the supervisor of a whole platform needs it
    from grpc_health.v1 import health_pb2, health_pb2_grpc  # noqa: PLC0415

    with grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            request = health_pb2.HealthCheckRequest(service="DagsterApi")
            answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=_TIMEOUT_S)
        except grpc.RpcError as error:
            raise Silent(str(error.code().name).lower().replace("_", " ")) from None
    # The server answers at once, and serves once it has loaded the definitions.
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        raise NotYet("loading the definitions")
    return Answer()


def dagster_webserver(port: int) -> Answer:
    """Ask Dagster's GraphQL whether every code location is loaded."""
    workspace = _get(f"http://127.0.0.1:{port}/graphql", query=_LOCATIONS)["data"]["workspaceOrError"]
    for entry in workspace.get("locationEntries", []):
        found = entry["locationOrLoadError"] or {}
        if found.get("__typename") != "RepositoryLocation":
            raise NotYet(str(found.get("message") or "the definitions are loading").strip().splitlines()[0])
    return Answer()


def dagster_daemon(webserver_port: int, started_s: float) -> Answer:
    """Ask for the heartbeats of Dagster's daemons: each required one must have one since the start, and a recent one.

    A daemon writes a heartbeat every 30 s; Dagster itself calls it healthy for half an hour after the last one.
    """
    try:
        found = _get(f"http://127.0.0.1:{webserver_port}/graphql", query=_DAEMONS)
        statuses = found["data"]["instance"]["daemonHealth"]["allDaemonStatuses"]
    except Silent as reason:  # of the webserver, not of the daemon
        raise NotYet(str(reason)) from None
    required = {status["daemonType"].lower(): status for status in statuses if status["required"]}
    beats = {name: status["lastHeartbeatTime"] or 0.0 for name, status in required.items()}
    # A heartbeat from before the start is of an earlier daemon, on the same store.
    unheard = [name for name, beat in beats.items() if beat < started_s or not required[name]["healthy"]]
    if unheard:
        raise NotYet(f"no heartbeat yet of {', '.join(unheard)}")
    oldest_s = clock.now_s() - min(beats.values(), default=started_s)
    if oldest_s > _NO_HEARTBEAT_S:
        late = min(beats, key=lambda name: beats[name])
        raise Silent(f"no heartbeat of {late} for {oldest_s:.0f} s")
    return Answer()


def api(url: str) -> Answer:
    """Ask the API whether it can read the catalog. If that takes too long, ask whether the API itself is alive."""
    try:
        _get(f"{url}/ready")
    except Silent as reason:
        _get(f"{url}/health")
        raise NotYet(f"the catalog is not read: {reason}") from None
    return Answer()


def _get(url: str, *, any_status: bool = False, query: str | None = None) -> Any:
    """Return the JSON that a service answers; with ``query``, ask by POST."""
    body = None if query is None else {"query": query}
    answer = _request("GET" if body is None else "POST", url, any_status=any_status, json=body)
    try:
        return answer.json()
    except ValueError:
        raise NotYet(f"{answer.url} answers, but not in JSON") from None


@cache
def _client() -> httpx.Client:
    """Return the one client of this process: to create one builds a TLS context, which costs more than a probe.

    It keeps no connection open: one that its server is just closing would look like silence.
    """
    return httpx.Client(timeout=_TIMEOUT_S, trust_env=False, limits=httpx.Limits(max_keepalive_connections=0))


def _request(method: str, url: str, *, any_status: bool = False, **arguments: Any) -> httpx.Response:
    try:
        answer = _client().request(method, url, **arguments)
        if not any_status:
            answer.raise_for_status()
    # No connection or no answer in time is silence; an answer with an error status is not.
    except httpx.TransportError as error:
        raise Silent(str(error) or type(error).__name__) from None
    except httpx.HTTPError as error:
        raise NotYet(str(error) or type(error).__name__) from None
    return answer
