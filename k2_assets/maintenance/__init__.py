"""What keeps the lake lean: history thinned, small files joined, files that nothing names removed."""
