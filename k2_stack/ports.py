"""Find out, before anything starts, whether ports are free, and find others that are."""

import socket
from contextlib import ExitStack
from typing import Final

import psutil

from k2_core.errors import PartError
from k2_core.settings import Ports
from k2_stack.parts import Part

LOOPBACK: Final = "127.0.0.1"


def require_free(plan: list[Part], host: str = LOOPBACK) -> None:
    """Check every port that a part of ours will listen on.

    Raises:
        PartError: names the port, the part, the process that holds it if it can be seen, and the setting.
    """
    for part in plan:
        for port, setting in part.ports.items():
            if part.command and not is_free(port, host):
                msg = (
                    f"port {port}, which the {part.name} needs, is taken by {holder(port)}: stop that, or choose "
                    f"another port with K2_PORTS__{setting.upper()}=…"
                )
                raise PartError(msg)


def free_beside(wanted: Ports) -> Ports:
    """Return ``wanted`` when nobody listens on any of them, else other ports that are free.

    All others, since a platform that holds some may be starting the parts again that hold the rest.
    """
    if all(is_free(port, LOOPBACK) for _, port in wanted):
        return wanted
    with ExitStack() as held:
        return Ports(**{name: _any_free(held, {port for _, port in wanted}) for name, _ in wanted})


def _any_free(held: ExitStack, taken: set[int]) -> int:
    """Return a port that the kernel gives out; it is held until all are found, so that none comes twice."""
    while True:
        probe = held.enter_context(socket.socket())
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        if port not in taken:
            return port


def is_free(port: int, host: str) -> bool:
    """Tell whether a server could listen on the port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do; else closed connections count
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def holder(port: int) -> str:
    """Describe the process that listens on the port, as far as this user may see."""
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr[1:] == (port,) and connection.pid:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except psutil.Error:
        pass  # another user's process: then it has no name for us
    return "another program"
