"""Dagster's daemon, which looks at backfills every 5 s instead of every 30 s.

A backfill of one day waits for two looks: one asks for its runs and one sees that they are done. The daemon also asks
for new definitions every 20 s, not 60: pages show older days only when it knows them.
"""

import sys
from typing import Final

from dagster._daemon import controller
from dagster._daemon.cli import cli

from k2_assets.orchestration.code_location import DAEMON_ASKS_EVERY_S

LOOK_S: Final = 5


def main() -> None:
    """Run as ``dagster-daemon run`` does, with the same flags."""
    controller.DEFAULT_DAEMON_INTERVAL_SECONDS = LOOK_S  # the loop of backfills has no setting
    controller.RELOAD_WORKSPACE_INTERVAL = DAEMON_ASKS_EVERY_S
    cli(["run", *sys.argv[1:]], obj={})


if __name__ == "__main__":
    main()
