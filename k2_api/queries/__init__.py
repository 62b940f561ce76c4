"""Pure queries: SQL and parameters from validated values."""
