"""`python -m arbench`."""

from arbench.cli.main import entry

entry()
