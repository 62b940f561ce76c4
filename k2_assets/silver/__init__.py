"""Trades parsed and validated, and what was rejected."""
