"""Help of commands, as wide as the terminal."""

from __future__ import annotations

import re
from typing import Any

_LINE_BREAK = re.compile(r"(?<!\n)\n(?!\n)")


def in_paragraphs(command: Any) -> Any:
    """Join the lines of each paragraph of the help of this command and all below it; returns the command.

    A docstring is broken where the source is, and Typer would print it like that on a terminal of any width.
    """
    if command.help:
        command.help = _LINE_BREAK.sub(" ", command.help.strip())
    for inner in getattr(command, "commands", {}).values():
        in_paragraphs(inner)
    return command
