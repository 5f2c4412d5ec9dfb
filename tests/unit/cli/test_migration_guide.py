"""The guide for tldw_server names commands and options that exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import typer

from embedfleet.cli import app
from embedfleet.cli.arguments import checked

GUIDE = Path(__file__).parents[3] / "docs" / "migrating-from-tldw_server.md"


def test_every_command_of_the_guide_exists_with_its_options() -> None:
    text = GUIDE.read_text().replace("\\\n", " ")
    said = re.findall(r"^\$ embedfleet (.*)$", text, re.MULTILINE)
    assert len(said) > 8, "the pattern finds nothing: it is broken"
    for line in said:
        command: Any = checked(typer.main.get_command(app))
        words = line.split()
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]
        assert not getattr(command, "commands", {}), line
        known = {name for parameter in command.params for name in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known, line
