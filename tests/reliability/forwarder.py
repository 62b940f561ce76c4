"""A port on the way to a service, which a test can close, or let fall silent, while the service itself runs on."""

import contextlib
import selectors
import socket
import threading


class Forwarder:
    """Forwards TCP connections from ``port`` of 127.0.0.1 to ``target``; closed until :meth:`open`."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self._silent = False
        self._listener: socket.socket | None = None
        self._pairs: list[tuple[socket.socket, socket.socket | None]] = []

    def open(self, *, silent: bool = False) -> None:
        """Accept connections; ``silent``: and let them wait for ever."""
        self.close()
        self._silent = silent
        self._listener = socket.create_server(("127.0.0.1", self.port), reuse_port=True)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def close(self) -> None:
        """Refuse connections, and cut those that there are."""
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        for pair in self._pairs:
            for end in pair:
                _cut(end)
        self._pairs = []

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):  # it was closed
            while True:
                client, _ = listener.accept()
                server = None if self._silent else socket.create_connection(self._target)
                self._pairs.append((client, server))
                if server is not None:
                    threading.Thread(target=_pump, args=(client, server), daemon=True).start()


def _pump(one: socket.socket, other: socket.socket) -> None:
    try:
        with contextlib.suppress(OSError, ValueError), selectors.DefaultSelector() as ready:
            ready.register(one, selectors.EVENT_READ, other)
            ready.register(other, selectors.EVENT_READ, one)
            while _forward(ready):
                pass
    finally:  # whichever end went, or was reset: the other learns of it
        _cut(one)
        _cut(other)


def _forward(ready: selectors.BaseSelector) -> bool:
    for key, _ in ready.select():
        data = key.fileobj.recv(65536)  # type: ignore[union-attr]
        if not data:
            return False
        key.data.sendall(data)
    return True


def _cut(end: socket.socket | None) -> None:
    if end is not None:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()
