"""Asking for help loads no package: what a subcommand needs is imported when it is called."""

import subprocess
import sys

import pytest

K2 = [
    *([], ["up"], ["down"], ["status"], ["logs"], ["demo"], ["backfill"], ["maintain"], ["retention"], ["api"]),
    *(["tag"], ["tag", "create"], ["tag", "list"], ["tag", "delete"]),
    *(["tables"], ["tables", "list"], ["tables", "migrate"]),
    *(["alerts"], ["alerts", "test"], ["alerts", "list"]),
    *(["keys"], ["keys", "create"], ["keys", "list"], ["keys", "revoke"], ["keys", "rotate-cursors"]),
    *(["drain"], ["drain", "accept-loss"], ["feed"], ["feed", "run"], ["feed", "record"], ["feed", "simulate"]),
]
HEAVY = {
    "dagster",
    "pyiceberg",
    "pyarrow",
    "polars",
    "duckdb",
    "fastapi",
    "sqlalchemy",
    "confluent_kafka",
    "httpx",
    "apprise",
}


@pytest.mark.parametrize(
    ("module", "commands", "heavy"),
    [
        ("k2_stack.cli", K2, {*HEAVY, "pydantic", "numpy", "rich"}),
        ("k2_api.query_cli", [[]], {*HEAVY, "pydantic", "numpy", "rich"}),
        ("k2_api.query_cli", [["rejected"]], {*HEAVY, "pydantic", "rich"}),
    ],
)
def test_help_loads_no_package(module: str, commands: list[list[str]], heavy: set[str]) -> None:
    asking = (
        f"import sys; from {module} import main\n"
        f"for command in {commands}: main([*command, '--help'], standalone_mode=False)\n"
        f"print('loaded', sorted({heavy} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", asking], capture_output=True, text=True, check=True)
    assert done.stdout.count("Usage: ") == len(commands)
    assert done.stdout.splitlines()[-1] == "loaded []"
