"""Dagster's processes as K2 starts them: the code server, the fork server of its runs, the daemon."""
