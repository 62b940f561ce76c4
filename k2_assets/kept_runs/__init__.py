"""Runs of which there is always one: the drain, and what refines gold. What keeps them alive and replaces them."""
