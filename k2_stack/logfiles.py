"""Where logs are. Read the end of a part's log, and follow it; put a time before each line of the supervisor's own."""

import io
import os
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

from k2_core import clock
from k2_core.settings import Settings

LOOK_S: Final = 0.2


def log_of(settings: Settings, name: str) -> Path:
    """Return the log file of a part."""
    return settings.home / "logs" / f"{name}.log"


def last_line(log: Path) -> str:
    """Return the last line of a log, even if it is empty; an empty text when there is no log."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 4096))
            lines = file.read().decode(errors="replace").splitlines()
    except FileNotFoundError:
        return ""
    return lines[-1].strip() if lines else ""


def tail(log: Path, lines: int, *, follow: bool) -> Iterator[str]:
    """Yield the last ``lines`` lines; with ``follow`` also new ones, for ever, even when the file is replaced."""
    file = log.open(errors="replace")
    try:
        yield from deque(file, maxlen=lines)
        while follow:
            if line := file.readline():
                yield line
                continue
            # A start of the part may have set the log aside, so that the name belongs to another file, or limit_log has
            # emptied it.
            own = Path(f"/proc/self/fd/{file.fileno()}").stat()
            with suppress(FileNotFoundError):
                now = log.stat()
                if now.st_ino != own.st_ino or now.st_size < file.tell():
                    file.close()
                    file = log.open(errors="replace")
            time.sleep(LOOK_S)
    finally:
        file.close()


def stamp_output(log: Path) -> None:
    """Put the time before each line that this process prints from now on, if ``log`` is where its output goes."""
    # Detached, the supervisor's output goes to its log. On a terminal, lines carry no time.
    if log.exists() and os.path.samestat(os.fstat(1), log.stat()):
        sys.stdout, sys.stderr = (
            io.TextIOWrapper(Stamped(out), "utf-8", errors="backslashreplace", write_through=True)  # type: ignore[type-var]  # no name is needed
            for out in (sys.stdout.buffer, sys.stderr.buffer)
        )


def unstamped(line: str) -> str:
    """Return a line of such a log without its time."""
    return line.partition(" ")[2]


class Stamped(io.RawIOBase):
    """A stream of bytes that puts the time before each line, and passes it on at once."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._begins = True

    def write(self, text: bytes) -> int:  # type: ignore[override]  # what a TextIOWrapper gives it
        """Write ``text``, which may be a part of a line, or some lines."""
        for line in text.splitlines(keepends=True):
            stamp = f"{clock.iso(clock.now())} ".encode() if self._begins else b""
            self._out.write(stamp + line)
            self._begins = line.endswith(b"\n")
        self._out.flush()
        return len(text)

    def fileno(self) -> int:
        """Return the descriptor of the stream that is written to."""
        return self._out.fileno()

    def writable(self) -> bool:  # a TextIOWrapper asks
        return True
