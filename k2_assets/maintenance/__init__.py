"""Maintenance: thin history, join small files, remove unnamed files."""
