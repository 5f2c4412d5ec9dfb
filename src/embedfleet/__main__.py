"""The program `embedfleet`, also `python -m embedfleet`."""

from __future__ import annotations

from typing import NoReturn

from embedfleet.lifetime import end_at_sigterm


def main() -> NoReturn:
    """Run a command, and end the process."""
    # Before the import: the commands and what they import take a second or more on a busy machine.
    end_at_sigterm()
    from embedfleet.cli import run

    run()


if __name__ == "__main__":
    main()
