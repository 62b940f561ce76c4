"""The nouns and contracts that all rooms share; imports no framework."""
