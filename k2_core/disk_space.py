"""The disks that K2 writes to, and whether they are full. Nothing here writes."""

import errno
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlparse

from k2_core.settings import Settings

_MB: Final = 1_000_000
_FULL_BYTES: Final = 2 * _MB  # no file of a commit fits any more
_LOW_SHARE: Final = 0.05
_FULL_TEXTS: Final = ("no space left", "disk is full", "disk quota exceeded")


@dataclass(frozen=True)
class Disk:
    """A folder that K2 writes to, and the space of its disk."""

    folder: Path
    free_bytes: int
    total_bytes: int

    @property
    def is_full(self) -> bool:
        """Whether nothing worth mentioning can be written."""
        return self.free_bytes < _FULL_BYTES

    def is_low(self, low_mb: int) -> bool:
        """Whether less is free than ``low_mb``, and less than a twentieth of the disk."""
        return self.free_bytes < min(low_mb * _MB, self.total_bytes * _LOW_SHARE)

    def sentence(self) -> str:
        """Say how full it is and what to do."""
        much = "full" if self.is_full else "almost full"
        return (
            f"the disk of {self.folder} is {much}: {self.free_bytes // _MB:,} MB free; "
            "free some space, K2 goes on by itself"
        )


def folders(settings: Settings) -> list[Path]:
    """Return the folders on this machine that K2 writes to: the home, and the warehouse if it lies elsewhere."""
    warehouse = urlparse(settings.warehouse)
    if warehouse.scheme not in {"", "file"}:
        return [settings.home]
    folder = Path(unquote(warehouse.path))
    return (
        [settings.home] if folder.is_relative_to(settings.home) and not folder.is_mount() else [settings.home, folder]
    )


def disks(settings: Settings) -> list[Disk]:
    """Return the disks of :func:`folders`; one that cannot be asked is left out."""
    found = []
    for folder in folders(settings):
        try:
            # A folder that is not there yet will be made on the disk of the nearest one that is.
            usage = shutil.disk_usage(next(path for path in (folder, *folder.parents) if path.exists()))
        except OSError:
            continue
        found.append(Disk(folder, usage.free, usage.total))
    return found


def low_disks(settings: Settings) -> list[Disk]:
    """Return the disks that are full or almost so, by ``K2_LOW_DISK_MB``."""
    return [disk for disk in disks(settings) if disk.is_full or disk.is_low(settings.low_disk_mb)]


def says_full(error: BaseException) -> bool:
    """Tell whether an error comes from a disk without space, whichever library worded it."""
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return True
    text = str(error).lower()
    return any(words in text for words in _FULL_TEXTS)
