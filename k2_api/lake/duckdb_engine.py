"""Run SQL with DuckDB over a list of files. Nothing here knows what the rows mean."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from threading import Timer
from typing import Final
from urllib.parse import urlparse

import duckdb
import pyarrow as pa

from k2_api.api_errors import FilesGone, QueryTimeout, QueryTooLarge
from k2_core.clock import monotonic
from k2_core.metrics import QUERY_DURATION, QUERY_EXECUTIONS, QUERY_ROWS
from k2_core.settings import Settings

ROWS: Final = "@rows"
"""Where a query names the rows it reads; becomes the planned files, or an Arrow table."""

_GLOB: Final = frozenset("*?[")
_FILES: Final = "read_parquet($files, hive_partitioning = false)"


class Engine:
    """One in-memory DuckDB that may read the warehouse's folder and nothing else.

    Every query runs in its caller's thread alone: ten callers at once are then served faster than by parallel scans.
    """

    def __init__(self, settings: Settings) -> None:
        self._timeout_s = settings.api.query_timeout_s
        self._memory_mb = settings.api.query_memory_mb
        memory = f"{self._memory_mb}MB"
        self._database = duckdb.connect(":memory:", config={"threads": 1, "memory_limit": memory, "temp_directory": ""})
        # The folders are allowed before access is closed; a query cannot open it again.
        if can_open(settings.warehouse):
            warehouse = local_path(settings.warehouse)
            self._database.execute("SET GLOBAL allowed_directories = $folders", {"folders": [warehouse]})
        self._database.execute("SET GLOBAL enable_external_access = false")
        self._database.execute("SET GLOBAL parquet_metadata_cache = true")

    def over_files(self, sql: str, paths: Sequence[str], params: Mapping[str, object], query_type: str) -> pa.Table:
        """Run ``sql`` over the Parquet files at ``paths``, at least one, which it names ``@rows``.

        Raises:
            FilesGone: a file is no longer there.
            QueryTimeout: it took longer than a query may.
            QueryTooLarge: it needs more memory than a query may use.
        """
        files = [local_path(path) for path in paths]
        with self._cursor(query_type) as cursor:
            return _fetch(cursor.sql(sql.replace(ROWS, _FILES), params={**params, "files": files}), query_type)

    def over_rows(
        self, sql: str, rows: pa.RecordBatchReader, params: Mapping[str, object], query_type: str
    ) -> pa.Table:
        """Run ``sql`` over Arrow rows, which it names ``@rows``, once, and which are read as it goes on.

        Raises:
            OSError: ``rows`` could not be read.
            QueryTimeout, QueryTooLarge: as of :meth:`over_files`.
        """
        failed: list[OSError] = []

        def noting_failure() -> Iterator[pa.RecordBatch]:
            try:
                yield from rows
            except OSError as error:  # DuckDB would pass on its text alone
                failed.append(error)
                raise

        try:
            with self._cursor(query_type) as cursor:
                cursor.register("arrow_rows", pa.RecordBatchReader.from_batches(rows.schema, noting_failure()))
                return _fetch(cursor.sql(sql.replace(ROWS, "arrow_rows"), params=dict(params)), query_type)
        except duckdb.Error:
            if failed:
                raise failed[0] from None
            raise

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    @contextmanager
    def _cursor(self, query_type: str) -> Iterator[duckdb.DuckDBPyConnection]:
        cursor = self._database.cursor()
        deadline = Timer(self._timeout_s, _interrupt, [cursor])
        deadline.daemon = True
        deadline.start()
        started = monotonic()
        try:
            yield cursor
        except duckdb.InterruptException:
            raise QueryTimeout(f"the query took longer than {self._timeout_s:g} s; ask for a shorter range") from None
        except duckdb.OutOfMemoryException:
            message = f"the query needs more than {self._memory_mb} MB of memory; ask for a shorter range"
            raise QueryTooLarge(message) from None
        except duckdb.IOException as error:
            raise FilesGone("files of the lake were removed while they were read; ask again") from error
        finally:
            deadline.cancel()
            cursor.close()
            QUERY_EXECUTIONS.labels("duckdb", query_type).inc()
            QUERY_DURATION.labels("duckdb", query_type).observe(monotonic() - started)


def can_open(location: str) -> bool:
    """Tell whether DuckDB reads exactly the file that ``location`` names: a local one, without glob letters."""
    return urlparse(location).scheme in {"", "file"} and not set(location) & _GLOB


def local_path(location: str) -> str:
    """Return the path of a local location, as DuckDB's ``filename`` column gives it."""
    return location.removeprefix("file://")


def _interrupt(cursor: duckdb.DuckDBPyConnection) -> None:
    with suppress(duckdb.ConnectionException):  # the query ended, and its cursor was closed, in this very moment
        cursor.interrupt()


def _fetch(result: duckdb.DuckDBPyRelation, query_type: str) -> pa.Table:
    rows: pa.Table = result.to_arrow_table()
    QUERY_ROWS.labels("duckdb", query_type).observe(rows.num_rows)
    return rows
