"""The types and contracts that all packages share; imports no framework."""
