"""What a client may ask over Binance's WebSocket, and the replies. Pure.

Source: Binance's "WebSocket Streams" documentation, "Live Subscribing/Unsubscribing to streams".
"""

import json
import re
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

MAX_STREAMS: Final = 1024
_METHODS: Final = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS", "SET_PROPERTY", "GET_PROPERTY")
_STREAM: Final = re.compile(r"([^\s/@!]+)@[0-9A-Za-z_@.]+|![0-9A-Za-z_@]+")
_INVALID_VALUE, _INVALID_REQUEST, _INVALID_JSON = 1, 2, 3


class Refused(Exception):  # an answer to the client, not an error of K2
    """A request that is answered with an error: Binance's code and message."""

    def __init__(self, code: int, message: str, request_id: int | str | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.request_id = code, message, request_id


class Subscriptions:
    """The streams of one connection, and whether its frames are wrapped in ``{"stream":…,"data":…}``."""

    def __init__(self, path: str) -> None:
        """Read what the URL asks for: ``/stream?streams=a/b`` is combined, ``/ws/a`` is raw."""
        parts = urlsplit(path)
        self.combined = parts.path.startswith("/stream")
        queried = parse_qs(parts.query).get("streams", [""])[0]
        listed = queried if self.combined else unquote(parts.path.removeprefix("/ws"))
        self.streams: dict[str, None] = {}
        self.refused: set[str] = set()
        for name in filter(None, listed.split("/")):
            self._add([name])

    def answer(self, message: str | bytes) -> bytes:
        """Carry a request out and return the reply: ``{"result":null,"id":1}``.

        A well-formed stream of a symbol that is not traded here is accepted and stays silent, as at Binance.
        """
        try:
            request = _parse(message)
            result = self._carry_out(request["method"], request.get("params"))
            reply: dict[str, Any] = {"result": result, "id": request["id"]}
        except Refused as refused:
            reply = {"error": {"code": refused.code, "msg": refused.message}}
            if refused.request_id is not None:
                reply["id"] = refused.request_id
        return json.dumps(reply, separators=(",", ":")).encode()

    def _carry_out(self, method: str, params: Any) -> list[str] | bool | None:
        texts = isinstance(params, list) and all(isinstance(name, str) for name in params)
        if method in {"SUBSCRIBE", "UNSUBSCRIBE"} and not texts:
            raise Refused(_INVALID_REQUEST, "Invalid request: params must be an array of stream names")
        match method:
            case "SUBSCRIBE":
                self._add(params)
            case "UNSUBSCRIBE":
                for name in params:
                    self.streams.pop(name, None)
            case "LIST_SUBSCRIPTIONS":
                return list(self.streams)
            case "SET_PROPERTY":
                if not isinstance(params, list) or len(params) != 2 or params[0] != "combined":  # noqa: PLR2004  # name, value
                    raise Refused(0, "Unknown property")
                if not isinstance(params[1], bool):
                    raise Refused(_INVALID_VALUE, "Invalid value type: expected Boolean")
                self.combined = params[1]
            case "GET_PROPERTY":
                if params != ["combined"]:
                    raise Refused(0, "Unknown property")
                return self.combined
        return None

    def _add(self, names: list[str]) -> None:
        for name in names:
            # A symbol may be of any script; it is written in lower case here. ``!`` begins a stream of all symbols.
            found = _STREAM.fullmatch(name)
            if found is None or (found[1] is not None and found[1] != found[1].lower()):
                self.refused.add(name)
                raise Refused(_INVALID_REQUEST, f"Invalid request: unknown stream {name}")
        # All of a request's streams or none: nothing was added yet.
        if len(self.streams.keys() | set(names)) > MAX_STREAMS:
            self.refused.update(names)
            raise Refused(_INVALID_REQUEST, "Invalid request: too many streams")
        self.streams.update(dict.fromkeys(names))


def _parse(message: str | bytes) -> dict[str, Any]:
    try:
        request = json.loads(message)
    except ValueError:
        raise Refused(_INVALID_JSON, "Invalid JSON: expected value at line 1 column 1") from None
    if not isinstance(request, dict) or "method" not in request:
        raise Refused(_INVALID_REQUEST, "Invalid request: missing field `method` at line 1 column 1")
    request_id = request.get("id", False)
    if isinstance(request_id, bool) or not isinstance(request_id, int | str | None):
        raise Refused(_INVALID_REQUEST, "Invalid request: request ID must be an unsigned integer")
    if request["method"] not in _METHODS:
        message = f"Invalid request: unknown variant `{request['method']}`, expected one of {', '.join(_METHODS)}"
        raise Refused(_INVALID_REQUEST, message, request_id)
    return request
