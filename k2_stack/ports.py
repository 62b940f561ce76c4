"""Find out, before anything starts, whether the ports of a plan are free."""

import socket

import psutil

from k2_core.errors import PartError
from k2_stack.parts import Part


def require_free(plan: list[Part], host: str = "127.0.0.1") -> None:
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
