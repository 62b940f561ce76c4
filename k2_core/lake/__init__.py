"""The lake as all packages know it: table specifications, the catalog, what commits remember."""
