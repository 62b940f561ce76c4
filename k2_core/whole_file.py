"""Write a file so that its readers see the old content or the new one, and never half of it."""

import os
from pathlib import Path


def replace(path: Path, content: bytes) -> None:
    """Write ``content`` beside ``path``, then give it that name; create the folder if it is missing.

    The content is not forced to the disk: after a power failure the file may be empty.

    Raises:
        OSError: such as a full disk; the file at ``path`` is then as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The pid, since two processes may write the same file at the same time.
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    beside.write_bytes(content)
    beside.replace(path)
