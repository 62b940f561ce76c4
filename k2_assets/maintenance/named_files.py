"""Which files snapshots name: manifest lists, manifests, data files. Only metadata is read, each manifest once."""

from collections.abc import Iterable

from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.table import Table

from k2_assets.lake.pending_files import pending_files
from k2_core.lake.manifests import Manifest, Manifests, reading

Files = dict[str, str]
"""Locations by the path that the file system knows a file by, without scheme: a listing gives the same."""


class NamedFiles:
    """What a table's snapshots name, as it was loaded.

    ``kept`` holds the manifests that kept snapshots name, by location; those of the current one first.
    """

    def __init__(self, table: Table) -> None:
        assert isinstance(table.io, PyArrowFileIO)  # noqa: S101  # what open_catalog's tables are read through
        self._table = table
        self._io = table.io
        self._read = reading(table.io)
        self._manifests = Manifests()  # its own: what is read once here would push out what others read again
        self.kept: dict[str, Manifest] = {}
        for snapshot in sorted(table.metadata.snapshots, key=lambda each: -(each.sequence_number or 0)):
            listed = self._listed(snapshot.manifest_list)
            self.kept |= {path: each for path, each in listed.items() if path not in self.kept}

    def plain(self, location: str) -> str:
        """Return a location's path without its scheme."""
        return self._io.parse_location(location, self._io.properties)[2]

    def gone(self, manifest_lists: Iterable[str]) -> dict[str, Manifest]:
        """Return the manifests of expired snapshots, by location; a list that was removed already names none."""
        found: dict[str, Manifest] = {}
        for location in manifest_lists:
            try:
                found |= self._listed(location)
            except FileNotFoundError:
                continue
        return found

    def data_files(self, manifests: Iterable[Manifest]) -> Files:
        """Return the live data files that manifests name."""
        found: Files = {}
        for manifest in manifests:
            found |= self._of(manifest)
        return found

    def without_named(self, candidates: Files, manifests: Iterable[Manifest]) -> Files:
        """Return the candidates that none of the manifests names; reads no further once none is left."""
        left = dict(candidates)
        for manifest in manifests:
            if not left:
                break
            for path in self._of(manifest).keys() & left.keys():
                del left[path]
        return left

    def metadata_files(self) -> Files:
        """Return the files that the table itself names beside its snapshots' manifests.

        These are its metadata, manifest lists and statistics, and rows that another table has not taken yet.
        """
        metadata = self._table.metadata
        locations = [
            self._table.metadata_location,
            *(each.metadata_file for each in metadata.metadata_log),
            *(each.manifest_list for each in metadata.snapshots),
            *(each.statistics_path for each in (*metadata.statistics, *metadata.partition_statistics)),
            *pending_files(self._table),
        ]
        return {self.plain(location): location for location in locations}

    def _listed(self, manifest_list: str) -> dict[str, Manifest]:
        return {each.path: each for each in self._manifests.listed(manifest_list, self._read)}

    def _of(self, manifest: Manifest) -> Files:
        try:
            files = self._manifests.files(manifest, self._read)
        except FileNotFoundError:
            if manifest.path in self.kept:
                raise  # without it nobody knows which files are needed
            return {}  # an earlier removal was interrupted behind it: its data files went before it
        return {self.plain(each.path): each.path for each in files}
