"""What all parts of Dagster here share: metadata of assets, partitions, runs and their processes."""
