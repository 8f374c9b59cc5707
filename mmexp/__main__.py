"""`python -m mmexp` is the `mmexp` command."""

from mmexp.cli import entry

entry()
