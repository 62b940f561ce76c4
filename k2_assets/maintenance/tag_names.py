"""Which names a person may give to a tag: those that ``as_of`` can take for nothing else. Pure."""

import re
from typing import Final

from pyiceberg.table.refs import MAIN_BRANCH

_LONGEST: Final = 128  # characters, as of the API's parameter
_CHARACTERS: Final = re.compile(r"[A-Za-z0-9._-]+", re.ASCII)
_NUMBER: Final = re.compile(r"[\d.-]+|-?\d+(\.\d*)?e[+-]?\d+", re.ASCII | re.IGNORECASE)
_TIME: Final = re.compile(r"\d{4}-\d\d(-\d\d)?(t.*)?", re.ASCII | re.IGNORECASE)


def why_refused(name: str) -> str | None:
    """Return why a name cannot be that of a tag, in words; None when it can: ``as_of`` must know what is meant."""
    if not _CHARACTERS.fullmatch(name) or len(name) > _LONGEST:
        return f"{name!r} is not a name of a tag: use up to {_LONGEST} letters, digits, '.', '_' and '-'"
    if name == MAIN_BRANCH:
        return f"{name!r} is what Iceberg calls the newest state of every table: choose another name"
    if name.startswith("auto-"):
        return f"{name!r} begins like the tags that maintenance creates and deletes by itself: choose another name"
    if _TIME.fullmatch(name):
        return f"{name!r} looks like a time, which as_of would take it for: put a word before it, such as report-{name}"
    if _NUMBER.fullmatch(name):
        return f"{name!r} is a number, which as_of would take for a snapshot id: put a word before it, such as v{name}"
    return None
