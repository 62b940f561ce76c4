"""Dagster resources around the catalog and the settings."""
