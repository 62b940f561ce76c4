"""Write what a venue sends into a recording: one frame a line, ``<receive time in ns> <frame>``."""

import gzip
import os
from pathlib import Path
from typing import IO

from k2_core.errors import RecordingError
from k2_core.logs import logger
from k2_feeds.kafka.feed_events import Kind

_log = logger(__name__)
_LEVEL = 6


class Recorder:
    """A sink of frames. Until :meth:`finish` the file is called ``<path>.part``.

    Every frame is written verbatim, control frames too. A frame with a line feed does not fit this format: it is
    counted in ``unrecordable`` and logged. A file that is incomplete, as after a full disk, keeps the name
    ``<path>.part``. Without any frame there is no file.

    Raises:
        RecordingError: the file, or what an interrupted recording left of it, exists already.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.frames = self.bytes = self.unrecordable = 0
        self.heard: dict[tuple[str, str], int] = {}
        self._part = path.with_name(f"{path.name}.part")
        for existing in (path, self._part):
            if existing.exists():
                msg = f"{existing} exists already: move it away, or give another name."
                raise RecordingError(msg)
        self._failed: RecordingError | None = None
        self._file = self._open()

    @property
    def full(self) -> bool:
        return False  # writing blocks

    async def wait_until_accepted(self) -> None:
        return

    def open(self, connection_id: str) -> "Recorder":  # noqa: ARG002  # as the protocol says
        """Go on in the same file, which holds the frames of all connections in the order of their arrival."""
        return self

    def close(self) -> None:
        """End a connection; the file goes on until :meth:`finish`."""

    def note(self, kind: Kind, symbol: str = "", **details: str) -> None:
        _log.info(kind, symbol=symbol, **details)

    def take(self, received_ns: int, payload: bytes) -> None:
        """Write one frame.

        Raises:
            RecordingError: it cannot be written.
        """
        if b"\n" in payload:
            self.unrecordable += 1
            _log.error("a frame with a line feed cannot be recorded", bytes=len(payload), head=repr(payload[:100]))
            return
        try:
            self._file.write(b"%d %b\n" % (received_ns, payload))
        except OSError as error:
            raise self._broken(error) from None
        self.frames += 1
        self.bytes += len(payload)

    def finish(self) -> None:
        """Complete the file on disk and give it its name, if it holds a frame.

        Raises:
            RecordingError: not all of it could be written.
        """
        try:
            self._file.close()
            if self._failed is None and self.frames:
                with self._part.open("rb") as written:
                    os.fsync(written.fileno())
                self._part.rename(self.path)
        except OSError as error:
            self._broken(error)
        if self._failed is not None:
            raise self._failed
        if not self.frames:
            self._part.unlink()

    def _broken(self, error: OSError) -> RecordingError:
        """Remember the first failure, after which the file lacks something."""
        if self._failed is None:
            self._failed = RecordingError(
                f"{self.path} cannot be written further ({error.strerror}): "
                f"what came before is in {self._part.name}, whose end may be cut off."
            )
        return self._failed

    def _open(self) -> IO[bytes]:
        try:
            if self.path.suffix == ".gz":
                return gzip.open(self._part, "wb", compresslevel=_LEVEL)  # type: ignore[return-value]
            return self._part.open("wb")
        except OSError as error:
            msg = f"{self._part} cannot be written: {error.strerror}."
            raise RecordingError(msg) from None
