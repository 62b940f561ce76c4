"""The kept run that brings gold up to silver, newest day first."""
