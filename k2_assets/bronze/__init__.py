"""Frames as received, byte for byte."""
