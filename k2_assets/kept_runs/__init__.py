"""The two runs that are always there, drain and refine, and what keeps them alive and replaces them."""
