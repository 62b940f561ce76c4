"""docs/rejected.md: its snippets run, its reasons are those of the code, its examples are rejected for them."""

import re
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner

from k2_api.query_cli import main
from k2_core.lake.tables import silver_rejected
from k2_core.settings import child_environment
from tests.api.lakes import Lake
from tests.api.test_query_rejected import a_reject

PAGE = (Path(__file__).parents[2] / "docs" / "rejected.md").read_text()
SNIPPETS = re.findall(r"^( *)```python\n(.*?)^ *```", PAGE, re.MULTILINE | re.DOTALL)


def run(lake: Lake, indent: str, snippet: str) -> str:
    text = "".join(line.removeprefix(indent) for line in snippet.splitlines(keepends=True))
    environment = child_environment(K2_HOME=str(lake.home))
    done = subprocess.run([sys.executable, "-c", text], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_snippets_show_what_was_rejected(lake: Lake) -> None:
    bad = a_reject(2, reason="unknown_event", payload=b'{"e":"newcomer"}')
    lake.add([a_reject(1, error="cut off here"), bad], silver_rejected("binance"))

    counted, tried = (run(lake, *snippet) for snippet in SNIPPETS)

    assert "cut off here" in counted
    assert tried == "unknown_event: event 'newcomer' outside a stream\n"


def test_every_option_that_the_page_names_exists() -> None:
    named = set(re.findall(r"`(-\w|--\w+)[ `]", PAGE))
    reported = CliRunner().invoke(main, ["rejected", "--help"]).stdout.replace(",", " ").split()

    assert len(named) >= 6
    assert named <= set(reported)
