"""Every error that K2 raises on purpose.

K2Error
├── SettingsError            a settings value cannot be used
├── MalformedFrame           a venue's frame, or a trade in it, cannot become a row; carries a reason
├── CatalogError             the catalog of a home cannot be read
├── NoSuchKey                no key of the API has this id, or it was revoked before
├── NewerHome                a newer K2 made the home or changed its format
├── TableDiffers             a table differs from its spec in a way that cannot be changed in place
├── ForeignTable             a table holds what another engine wrote and K2 cannot read
├── RegistryError            the schema registry refused or did not answer
│   └── IncompatibleSchema   a schema would break readers of what was already written
├── TopicError               a topic is missing, or its settings differ from what K2 needs
├── OffsetError              a committed offset no longer lies within the topic's log
├── NotStorable              rows cannot be written, and it is no fault of a few messages
├── DoubledRows              a table holds a message twice
├── RemovedByRetention       a rebuild needs rows that retention has removed
├── TagRefused               a named tag cannot be created or deleted as asked
├── CommitConflict           another writer moved the table's offsets first
├── LockBusy                 other work on the table has not ended
├── LockLost                 a lease could not be renewed in time, or is another's
├── LeasesAway               nobody can tell now who has a lease
├── PartError                a part of the platform did not start or did not answer
│   └── PartAway             it does not answer now, and may later
├── DownloadError            something could not be fetched, or its SHA-256 is not the locked one
└── RecordingError           a recording cannot be read
"""

from typing import Final


class K2Error(Exception):
    """Root of all errors that K2 raises on purpose. Its text is one sentence a user can act on."""


class SettingsError(K2Error):
    """A settings value cannot be used."""


_LONGEST: Final = 500  # characters of an error: it is for a person, and the bytes are kept beside it


def readable(text: str) -> str:
    """Return what was found wrong as tables keep it: cut to what a person reads, without what is no text."""
    if len(text) > _LONGEST:
        tail = f"… ({len(text):,} characters)"
        text = text[: _LONGEST - len(tail)] + tail
    return text.encode("utf-8", "backslashreplace").decode()


class MalformedFrame(K2Error):
    """A frame, or one trade in it, cannot become a row.

    ``reason`` is one of :data:`k2_core.trades.REASONS`; ``detail`` says what was found.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class CatalogError(K2Error):
    """The catalog of a home cannot be read."""


class NoSuchKey(K2Error):
    """No key of the API has this id, or it was revoked before."""


class NewerHome(K2Error):
    """A newer K2 made the home, or changed its format."""


class TableDiffers(K2Error):
    """A table differs from its spec in a way that cannot be changed in place."""


class ForeignTable(K2Error):
    """A table holds what another engine wrote and K2 cannot read."""


class RegistryError(K2Error):
    """The schema registry refused or did not answer."""


class IncompatibleSchema(RegistryError):
    """A schema would break readers of what was already written."""


class TopicError(K2Error):
    """A topic is missing, or its settings differ from what K2 needs."""


class OffsetError(K2Error):
    """A committed offset no longer lies within the topic's log."""


class NotStorable(K2Error):
    """Rows cannot be written, and too many messages are concerned for it to be their fault."""


class DoubledRows(K2Error):
    """A table holds a message twice; nothing is made from it until it was mended."""


class RemovedByRetention(K2Error):
    """A rebuild needs rows that retention has removed; what is there stays as it is."""


class UnfitTrades(K2Error):
    """Candles cannot be made of a day's trades."""


class TagRefused(K2Error):
    """A named tag cannot be created or deleted as asked."""


class CommitConflict(K2Error):
    """Another writer moved the table's offsets first; the batch must be thrown away."""


class LockBusy(K2Error):
    """Other work on the same table holds the lock."""


class LockLost(K2Error):
    """A lease could not be renewed in time, or is another's; what was being done under it must begin again."""


class LeasesAway(K2Error):
    """The database of leases cannot be read or written, so that nobody can tell who has one."""


class PartError(K2Error):
    """A part of the platform did not start or did not answer."""


class PartAway(PartError):
    """A part of the platform does not answer now, and may later, as after a restart."""


class DownloadError(K2Error):
    """Something could not be fetched, or its SHA-256 is not the locked one."""


class RecordingError(K2Error):
    """A recording cannot be read."""
