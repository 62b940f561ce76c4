"""The definitions as the code server holds them: what Dagster shows can begin at an earlier day while it runs.

Dagster fixes partitions when a process loads the definitions. To load them again it would replace the code server, and
with it the processes of runs. Here only the graph that is shown is built again. Jobs have every day since 2010, for
Dagster fails the run of a day that is no partition of its job.
"""

from collections.abc import Callable
from datetime import date
from typing import Final

import dagster as dg
from dagster._core.definitions.assets.graph.asset_graph import AssetGraph

from k2_core import clock
from k2_core.trades import FIRST_DAY

DAEMON_ASKS_EVERY_S: Final = 20
"""After so many seconds Dagster's daemon asks for the definitions again."""


class CodeLocation(dg.RepositoryDefinition):
    """The repository of the definitions that ``build`` returns; :meth:`begin_at` moves the first partition it shows.

    Args:
        build: returns the definitions whose days begin at its argument.
        first: the first partition to begin with.
    """

    def __init__(self, build: Callable[[date], dg.Definitions], first: date) -> None:
        made = build(FIRST_DAY).get_repository_def()
        super().__init__(made.name, repository_data=made._repository_data)  # noqa: SLF001  # of this very class
        self._build = build
        self.begin_at(first)
        self.shown = first  # what the webserver was last asked to show; it asks this process when either starts

    @property
    def asset_graph(self) -> AssetGraph:  # the base keeps the first one for ever
        """The graph of the assets as Dagster shows them now."""
        return self._graph

    def begin_at(self, first: date) -> None:
        """Show the days from ``first`` on."""
        self._graph = self._build(first).get_repository_def().asset_graph
        self.first = first
        self.moved_at = clock.monotonic()  # the daemon does not know it at once
