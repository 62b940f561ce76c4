"""Read the end of a part's log, and follow it."""

import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Final

LOOK_S: Final = 0.2


def tail(log: Path, lines: int, *, follow: bool) -> Iterator[str]:
    """Yield the last ``lines`` lines; with ``follow`` also what comes, for ever, over a change of the file."""
    file = log.open(errors="replace")
    try:
        yield from deque(file, maxlen=lines)
        while follow:
            if line := file.readline():
                yield line
                continue
            if _is_another(log, file.fileno(), file.tell()):
                file.close()
                file = log.open(errors="replace")
            time.sleep(LOOK_S)
    finally:
        file.close()


def _is_another(log: Path, descriptor: int, position: int) -> bool:
    """Tell whether the name now belongs to another file, or the file has become shorter."""
    try:
        now = log.stat()
    except FileNotFoundError:
        return False
    return now.st_ino != Path(f"/proc/self/fd/{descriptor}").stat().st_ino or now.st_size < position
