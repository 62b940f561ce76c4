"""Reading the lake at one snapshot with DuckDB. Nothing here knows HTTP."""
