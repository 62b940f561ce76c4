"""Dagster's code server, whose runs begin at once: they are forked from a process that has loaded what they need.

``dagster api grpc`` starts a fresh Python for each run, which imports for 3 s of CPU before it does anything; a refresh
of gold then works for one second.
"""

import importlib
import multiprocessing
import sys
from typing import Any, Final

from dagster._cli import ENV_PREFIX, cli
from dagster._grpc import server

from k2_assets.processes import fork_server

DEFINITIONS: Final = "k2_assets.definitions"
# Each run loads the definitions itself, and so reads the newest settings.
PRELOADED: Final = [
    *("k2_assets.build_definitions", "dagster._grpc.impl"),
    # What these load only when a run begins to work.
    *("dagster._core.storage.sqlite_storage", "dagster._core.storage.local_compute_log_manager"),
    *("dagster._core.definitions.antlr_asset_selection.antlr_asset_selection", "upath.implementations.local"),
    *("pyiceberg.avro.decoder_fast", "numpy.ma"),
]


class ForkingServer(server.DagsterApiServer):
    """Dagster's server, but for how it starts the processes of runs."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        forking = multiprocessing.get_context("forkserver")
        forking.set_forkserver_preload(
            ["k2_assets.processes.fresh_fork_server", *PRELOADED]
        )  # of one that follows a killed one
        self._mp_ctx = forking  # type: ignore[assignment]  # where the base keeps what starts the processes of runs


def main() -> None:
    """Serve as ``dagster api grpc`` does, with the same flags."""
    for name in PRELOADED:
        importlib.import_module(name)
    fork_server.begin()
    server.DagsterApiServer = ForkingServer  # type: ignore[misc]  # the command takes it from there
    cli(["api", "grpc", "-m", DEFINITIONS, *sys.argv[1:]], auto_envvar_prefix=ENV_PREFIX)


if __name__ == "__main__":
    main()
