"""The names of the platform's parts. Imports nothing, so that commands can name parts without loading any."""

from typing import Final

DAGSTER: Final = ("dagster-code", "dagster-daemon", "dagster-webserver")
STEPS: Final = ("kafka-files", "registry-files", "tables", "dagster-home")
LOGS: Final = ("broker", "registry", "simulator", "feed", *DAGSTER, "drain", "refine", "api", "supervisor", *STEPS)
"""Everything that writes a log."""
