"""What judges each layer."""
