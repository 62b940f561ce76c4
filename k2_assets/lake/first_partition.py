"""The first partition of a home: a row in the catalog's own database, moved back by older data and never forward.

Dagster's pages show days from it on, and that is all. A refresh works on any day, before the first partition too.
"""

from collections import Counter
from datetime import date
from typing import Final

from pyiceberg.catalog import Catalog
from pyiceberg.catalog.sql import SqlCatalog
from sqlalchemy import Column, Engine, MetaData, String, Table, create_engine, insert, inspect, select, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from k2_assets.lake.source_files import rows_by_day
from k2_core import clock
from k2_core.lake import tables
from k2_core.lake.tables import DATA, GOLD
from k2_core.logs import logger
from k2_core.made_once import ensure_table
from k2_core.settings import Settings
from k2_core.trades import FIRST_DAY
from k2_core.venues import VENUES

log = logger(__name__)

FEWEST_ROWS: Final = 10
_FIRST: Final = Table(
    "k2_first_partition",
    MetaData(),
    Column("namespace", String(255), primary_key=True),
    Column("day", String(10), nullable=False),
)
# Gold has each trade once, however often a venue repeats it. A home that is older than this table began with bronze.
_COUNTED: Final = (
    tuple(GOLD[data].name for data in DATA),
    tuple(tables.bronze(venue, data).name for venue in VENUES for data in DATA),
)


class FirstPartition:
    """The first partition of the lake in ``catalog``."""

    def __init__(self, catalog: Catalog, namespace: str) -> None:
        assert isinstance(catalog, SqlCatalog)  # noqa: S101  # the only kind that open_catalog opens
        self._catalog = catalog
        self._namespace = namespace
        ensure_table(catalog.engine, _FIRST)

    def settle(self) -> date:
        """Return the first partition, after moving it back to where data begin; at first it is today.

        Fewer than ten rows of older data never move it: one stray row would make thousands of empty days.
        """
        stored = _stored(self._catalog.engine, self._namespace)
        first = stored or clock.now().date()
        found = first
        for names in _COUNTED:
            rows: Counter[date] = Counter()
            for name in names:
                rows += rows_by_day(self._catalog.load_table((self._namespace, name)), first)
            counted = 0  # from the oldest day on: the day of the tenth-oldest row counts
            for day in sorted(filter(is_day_of_data, rows)):
                counted += rows[day]
                if counted >= FEWEST_ROWS:
                    found = min(found, day)
                    break
        if found == stored:
            return found
        row = {"namespace": self._namespace, "day": found.isoformat()}
        try:
            with self._catalog.engine.begin() as connection:
                connection.execute(insert(_FIRST).values(row))
        except IntegrityError:  # there is one: another process may have stored an earlier day meanwhile, which stays
            later = (_FIRST.c.namespace == self._namespace, _FIRST.c.day > row["day"])
            with self._catalog.engine.begin() as connection:
                connection.execute(update(_FIRST).where(*later).values(day=row["day"]))
        log.info("the first partition is settled", day=row["day"])
        return found


def is_day_of_data(day: date) -> bool:
    """Return whether data of a day are refreshed and reported, before the first partition too."""
    return FIRST_DAY <= day <= clock.now().date()


def known_first_partition(settings: Settings) -> date:
    """Return the first partition as it is stored; today where none is, or where the database does not answer.

    Quick, for processes that load the definitions: it opens no catalog and makes nothing.
    """
    made = settings.catalog.uri is not None or (settings.home / "catalog.db").exists()
    if not made:
        return clock.now().date()
    engine = create_engine(settings.catalog_uri)
    try:
        there = inspect(engine).has_table(_FIRST.name)
        stored = _stored(engine, settings.catalog.namespace) if there else None
    except SQLAlchemyError as error:  # a sensor of the code server looks again
        log.warning("the first partition is not known", error=str(error))
        stored = None
    finally:
        engine.dispose()
    return stored or clock.now().date()


def _stored(engine: Engine, namespace: str) -> date | None:
    with engine.connect() as connection:
        day = connection.execute(select(_FIRST.c.day).where(_FIRST.c.namespace == namespace)).scalar()
    return date.fromisoformat(day) if day else None
