"""Read recordings: one frame a line, ``<receive time in ns> <frame>``, gzip or plain. Opens files, nothing else."""

import gzip
import heapq
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Final, NamedTuple

import msgspec

from k2_core.errors import RecordingError

VENUE: Final = "binance"
_LINE: Final = re.compile(rb"(\d{1,19}) (.+)", re.DOTALL)
_WRAPPED: Final = re.compile(rb'\s*\{\s*"stream"\s*:\s*"([^"\\]+)"')
_GZIP_MAGIC: Final = b"\x1f\x8b"
_PROGRESS_EVERY: Final = 1_000_000
REPLY: Final = ""


class Line(NamedTuple):
    """One recorded frame. ``stream`` is None when the frame cannot be attributed, and REPLY for a request's answer."""

    received_ns: int
    stream: str | None
    frame: bytes


class Contents(NamedTuple):
    """What recordings hold together."""

    frames: int
    symbols: tuple[str, ...]


class _Loose(msgspec.Struct):
    stream: object = None
    e: object = None
    s: object = None
    u: object = None
    id: object = None
    result: object = msgspec.UNSET
    error: object = msgspec.UNSET
    code: object = msgspec.UNSET


_loose: Final = msgspec.json.Decoder(_Loose)


def recording_path(argument: str) -> Path:
    """Return the file of ``FILE`` or ``VENUE=FILE``.

    Raises:
        RecordingError: it does not exist, or is of a venue that this server does not speak for.
    """
    venue, separator, file = argument.partition("=")
    path = Path(file if separator else argument)
    if not separator:
        venue = path.name.partition("_")[0]
    if not path.is_file():
        msg = f"{path} is not a file: give the path of a recording."
        raise RecordingError(msg)
    if venue != VENUE:
        msg = (
            f"{path} is a recording of {venue!r} by its name, and the simulator speaks for {VENUE}: "
            f"if it is one of {VENUE}, say {VENUE}={path}."
        )
        raise RecordingError(msg)
    return path


def survey(paths: list[Path], report: Callable[[int], None] = lambda _: None) -> Contents:
    """Read recordings once, wholly, and say what they hold; ``report`` is told the frames read now and then.

    Raises:
        RecordingError: a file cannot be read; names file and line.
    """
    frames, symbols = 0, set[str]()
    for path in paths:
        for line in read(path):
            if line.stream and "@" in line.stream and not line.stream.startswith("!"):
                symbols.add(line.stream.partition("@")[0].upper())
            frames += 1
            if frames % _PROGRESS_EVERY == 0:
                report(frames)
    if frames == 0:
        msg = f"{', '.join(map(str, paths))}: there is no frame in it; a line is '<receive time in ns> <frame>'."
        raise RecordingError(msg)
    return Contents(frames, tuple(sorted(symbols)))


def merged(paths: list[Path]) -> Iterator[Line]:
    """Yield the frames of all files by receive time; those of one file stay in its order."""
    if len(paths) == 1:
        return read(paths[0])
    return heapq.merge(*map(read, paths), key=lambda line: line.received_ns)


def read(path: Path) -> Iterator[Line]:
    """Yield the frames of one file.

    Raises:
        RecordingError: names file and line.
    """
    number = 0
    try:
        with _open(path) as file:
            for number, raw in enumerate(file, start=1):
                found = _LINE.fullmatch(raw[:-1] if raw.endswith(b"\n") else raw)
                if found is None:
                    msg = f"{path}:{number}: expected '<receive time in ns> <frame>', found {raw[:60]!r}."
                    raise RecordingError(msg)
                received, frame = found.groups()
                yield Line(int(received), stream_of(frame), frame)
    except (OSError, EOFError, zlib.error) as error:
        msg = f"{path}:{number + 1}: the file cannot be read further ({error}); is it cut off?"
        raise RecordingError(msg) from None


def stream_of(frame: bytes) -> str | None:
    """Tell which stream a frame belongs to, whether wrapped or raw.

    None: nothing in it says so. A frame that is cut off but still names its stream belongs to it.
    """
    wrapped = _WRAPPED.match(frame)
    if wrapped is not None:
        return wrapped[1].decode("utf-8", "replace")
    try:
        loose = _loose.decode(frame)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if isinstance(loose.stream, str):
        return loose.stream
    if isinstance(loose.s, str) and isinstance(loose.e, str):
        return f"{loose.s.lower()}@{loose.e}"
    if isinstance(loose.s, str) and isinstance(loose.u, int):
        return f"{loose.s.lower()}@bookTicker"
    answers = any(part is not msgspec.UNSET for part in (loose.result, loose.error, loose.code))
    return REPLY if answers else None


def _open(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        zipped = file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
    return gzip.open(path, "rb") if zipped else path.open("rb")  # type: ignore[return-value]  # GzipFile reads alike
