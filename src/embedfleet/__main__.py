"""`python -m embedfleet`."""

from embedfleet.cli import main

main()
