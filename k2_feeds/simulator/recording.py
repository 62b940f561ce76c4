"""Read recordings: one frame a line, ``<receive time in ns> <frame>``, gzip or plain. Opens files, nothing else."""

import gzip
import heapq
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from k2_core.errors import RecordingError
from k2_feeds.simulator.attribution import OF_VENUE, Streams, symbols_of

_LINE: Final = re.compile(rb"(\d{1,19}) (.+)", re.DOTALL)
_GZIP_MAGIC: Final = b"\x1f\x8b"
_PROGRESS_EVERY: Final = 1_000_000


class Recording(NamedTuple):
    """A file, and the venue whose frames it holds."""

    venue: str
    path: Path


class Line(NamedTuple):
    """One recorded frame. ``streams`` is None when it cannot be attributed, and REPLY for a request's answer."""

    received_ns: int
    venue: str
    streams: Streams | None
    frame: bytes


class Contents(NamedTuple):
    """What recordings hold together: frames, and the symbols of each venue."""

    frames: int
    symbols: dict[str, tuple[str, ...]]


def recording_of(argument: str | Path) -> Recording:
    """Return the recording of ``FILE``, whose name begins with its venue, or of ``VENUE=FILE``.

    Raises:
        RecordingError: it does not exist, or is of a venue that this server does not speak for.
    """
    venue, separator, file = str(argument).partition("=")
    path = Path(file if separator else argument)
    if not separator:
        venue = path.name.partition("_")[0]
    if not path.is_file():
        msg = f"{path} is not a file: give the path of a recording."
        raise RecordingError(msg)
    if venue not in OF_VENUE:
        spoken = ", ".join(OF_VENUE)
        msg = (
            f"{path} is a recording of {venue!r} by its name, and the simulator speaks for {spoken}: "
            f"if it is one of theirs, say so, as in binance={path}."
        )
        raise RecordingError(msg)
    return Recording(venue, path)


def survey(recordings: list[Recording], report: Callable[[int], None] = lambda _: None) -> Contents:
    """Read recordings once and return what they hold; ``report`` is called with the number of frames now and then.

    Raises:
        RecordingError: a file cannot be read; names file and line.
    """
    frames, symbols = 0, {recording.venue: set[str]() for recording in recordings}
    for recording in recordings:
        seen = set[Streams | None]()
        named = symbols[recording.venue]
        for line in read(recording):
            if line.streams not in seen or not line.frame.isascii():  # another may be broken off before its symbol
                seen.add(line.streams)
                named.update(symbols_of(line.streams, line.frame))
            frames += 1
            if frames % _PROGRESS_EVERY == 0:
                report(frames)
    if frames == 0:
        paths = ", ".join(str(recording.path) for recording in recordings)
        msg = f"{paths}: there is no frame in it; a line is '<receive time in ns> <frame>'."
        raise RecordingError(msg)
    return Contents(frames, {venue: tuple(sorted(found)) for venue, found in symbols.items()})


def merged(recordings: list[Recording]) -> Iterator[Line]:
    """Yield the frames of all files by receive time; those of one file stay in its order."""
    if len(recordings) == 1:
        return read(recordings[0])
    return heapq.merge(*map(read, recordings), key=lambda line: line.received_ns)


def read(recording: Recording) -> Iterator[Line]:
    """Yield the frames of one file.

    Raises:
        RecordingError: names file and line.
    """
    number, (venue, path), streams_of = 0, recording, OF_VENUE[recording.venue]
    try:
        with path.open("rb") as file:  # by its first bytes, whatever its name
            zipped = file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
        with gzip.open(path, "rb") if zipped else path.open("rb") as file:
            for number, raw in enumerate(file, start=1):
                found = _LINE.fullmatch(raw[:-1] if raw.endswith(b"\n") else raw)
                if found is None:
                    msg = f"{path}:{number}: expected '<receive time in ns> <frame>', found {raw[:60]!r}."
                    raise RecordingError(msg)
                received, frame = found.groups()
                yield Line(int(received), venue, streams_of(frame), frame)
    except (OSError, EOFError, zlib.error) as error:
        msg = f"{path}:{number + 1}: the file cannot be read further ({error}); is it cut off?"
        raise RecordingError(msg) from None
