"""Follow the catalog's pointer to each table's newest metadata. Nothing here reads data files."""

from threading import Lock

from pyiceberg.catalog import Catalog
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError
from pyiceberg.table import Table
from sqlalchemy.exc import SQLAlchemyError

from k2_api.api_errors import LakeUnavailable
from k2_core.errors import NewerHome
from k2_core.lake.catalog import open_catalog, pointers
from k2_core.settings import Settings


class CatalogPointer:
    """Newest known state of the tables; asking again costs one look at the pointer while nothing changed.

    The catalog is opened at the first question, so that the API starts while the catalog is still away.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._catalog: Catalog | None = None
        self._tables: dict[str, Table] = {}
        self._opening = Lock()
        self._loading = Lock()

    def table(self, name: str) -> Table | None:
        """Return the table as of now; None when it has not been made yet.

        Raises:
            LakeUnavailable: the catalog, or the table's metadata file, cannot be read, or a newer K2 made them.
        """
        try:
            return self._follow(name)
        except (NoSuchTableError, NoSuchNamespaceError):
            self._tables.pop(name, None)
            return None
        except NewerHome as error:
            raise LakeUnavailable(str(error)) from error
        except (SQLAlchemyError, OSError) as error:
            raise LakeUnavailable("the catalog of the lake cannot be read; try again shortly") from error

    def close(self) -> None:
        """Give the catalog's connections back."""
        if isinstance(self._catalog, SqlCatalog):
            self._catalog.engine.dispose()

    def _follow(self, name: str) -> Table | None:
        with self._opening:
            if self._catalog is None:
                self._catalog = open_catalog(self._settings)
        catalog, namespace = self._catalog, self._settings.catalog.namespace
        # A metadata file never changes once written: while the catalog points to the one that was read, it is current.
        # A table that is not known yet is loaded at once, which asks for its pointer anyway.
        known = self._tables.get(name)
        location = pointers(catalog, namespace, name).get(name) if known is not None else None
        if known is not None and known.metadata_location == location:
            return known
        with self._loading:
            known = self._tables.get(name)  # another request may have followed the pointer while this one waited
            if known is not None and known.metadata_location == location:
                return known
            self._tables[name] = table = catalog.load_table((namespace, name))
            return table
