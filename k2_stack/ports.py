"""Check before anything starts that ports are free, and find other ports that are."""

import socket
from contextlib import ExitStack
from typing import Final

import psutil

from k2_core.errors import PartError
from k2_core.settings import Ports
from k2_stack.parts import Part

LOOPBACK: Final = "127.0.0.1"


def require_free(plan: list[Part], host: str = LOOPBACK) -> None:
    """Check every port that a part which K2 starts will listen on.

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
    """Return ``wanted`` when all of these ports are free, else other ports, none of which is among them.

    If one is taken, all are replaced: a platform that holds it may be restarting the parts that hold the rest.
    """
    if all(is_free(port, LOOPBACK) for _, port in wanted):
        return wanted
    avoided, found = {port for _, port in wanted}, {}
    with ExitStack() as held:
        for name, _ in wanted:
            port = None
            while port is None or port in avoided:
                # The kernel chooses. Each socket stays open until all ports are found, so that none appears twice.
                probe = held.enter_context(socket.socket())
                probe.bind((LOOPBACK, 0))
                port = probe.getsockname()[1]
            found[name] = port
    return Ports(**found)


def is_free(port: int, host: str) -> bool:
    """Return whether a server could listen on the port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do; else closed connections count
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def holder(port: int) -> str:
    """Return the name and the pid of the process that listens on the port, if this user may see it."""
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr[1:] == (port,) and connection.pid:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except psutil.Error:
        pass  # another user's process
    return "another program"
