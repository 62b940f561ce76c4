"""The commands of `k2-query`."""
