"""The whole platform on one machine under one command, and the k2 command."""
