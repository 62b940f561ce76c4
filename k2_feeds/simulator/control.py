"""Ask a running simulator for faults: its side of the WebSocket at /control, and the asker's."""

import asyncio
import json
from collections.abc import Callable
from typing import Any, Final

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from k2_core.errors import PartError, SettingsError
from k2_feeds.simulator.faults import Fault, fault_of, json_object

PATH: Final = "/control"


async def serve(socket: ServerConnection, inject: Callable[[Fault], asyncio.Task[int]]) -> None:
    """Answer requests until the asker goes.

    ``{"fault":"drop","venue":"kraken","count":3}`` is answered by ``{"ok":true}`` at once, with ``"wait":true`` by
    ``{"ok":true,"happened":3}`` when it is over; what is wrong by ``{"ok":false,"error":"…"}``.
    """
    async for message in socket:
        try:
            asked = json_object(message)
            wait = asked.pop("wait", False)
            task = inject(fault_of(asked))
        except SettingsError as error:
            await socket.send(json.dumps({"ok": False, "error": str(error)}))
            continue
        answer: dict[str, Any] = {"ok": True}
        if wait:
            answer["happened"] = await task
        await socket.send(json.dumps(answer))


def ask(port: int, request: dict[str, Any]) -> dict[str, Any]:
    """Send one request to the simulator on ``port`` and return its answer.

    Raises:
        PartError: there is no simulator.
        SettingsError: it refused; says why.
    """
    try:
        with connect(f"ws://127.0.0.1:{port}{PATH}", proxy=None, open_timeout=5) as socket:
            socket.send(json.dumps(request))
            answer: dict[str, Any] = json.loads(socket.recv())
    except (OSError, TimeoutError, WebSocketException, ValueError) as error:
        msg = f"no simulator answers on port {port} ({error}): start one with k2 feed simulate, or say --port."
        raise PartError(msg) from None
    if not answer.get("ok"):
        raise SettingsError(str(answer.get("error")))
    return answer
