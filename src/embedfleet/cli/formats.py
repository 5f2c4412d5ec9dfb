"""`embedfleet formats`: lists what can be read."""

from __future__ import annotations

from embedfleet.cli.options import AsJson
from embedfleet.cli.output import print_json, say


def formats(as_json: AsJson = False) -> None:
    """The formats of files that can be read: what is kept of each, and what is left out."""
    from embedfleet.parsing.format_descriptions import DESCRIPTIONS
    from embedfleet.parsing.formats import suffixes_of

    if as_json:
        described = [
            {"format": form.value, "suffixes": suffixes_of(form), **one.json_document()}
            for form, one in DESCRIPTIONS.items()
        ]
        print_json({"formats": described})
        return
    for form, one in DESCRIPTIONS.items():
        say(f"{form.value}: {' '.join('.' + suffix for suffix in suffixes_of(form))}")
        say(f"    kept: {one.kept}")
        say(f"    left out: {one.left_out}")
    say("A file with another suffix is read if it is named itself: its first bytes tell its format.")
