"""`python -m embedfleet`."""

from embedfleet.cli import run

run()
