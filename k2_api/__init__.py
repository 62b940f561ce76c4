"""The read-only REST API over the lake's tables."""
