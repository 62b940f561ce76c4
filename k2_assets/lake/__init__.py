"""The lake: the only modules that write tables, and what reads them by file and by day."""
