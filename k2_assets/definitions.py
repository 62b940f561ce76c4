"""The code location: everything that Dagster shows and runs. The settings are read here, once."""

import warnings

from k2_assets.build_definitions import code_location
from k2_core import logs
from k2_core.home_format import require_known_home
from k2_core.settings import load_settings

logs.configure("dagster")
_settings = load_settings()
require_known_home(_settings)
# A preview of Dagster's, which warns once a check in every process. Without it each check is shown twice, once skipped.
warnings.filterwarnings("ignore", message="Specifying a partitions_def on an AssetCheckSpec")
# A beta of Dagster's, which warns once an asset. Without it, every day of a backfill is a run of its own.
warnings.filterwarnings("ignore", message="Parameter `backfill_policy` of function `asset`")
defs = code_location(_settings)
