"""Following a venue's trade ids: what is missing, and what was known before."""
