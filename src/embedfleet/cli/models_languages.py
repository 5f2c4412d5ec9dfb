"""`embedfleet models languages`: says which languages a model knows, by its tokenizer."""

from __future__ import annotations

from typing import Annotated

import typer

from embedfleet.cli.options import AsJson, ConfigFile, DataDir, settings_here
from embedfleet.cli.output import print_json, say, say_table

_KNOWN = 0.95  # of the characters: the others are rare letters and signs


def languages(
    name: Annotated[str | None, typer.Argument(help="A model.", show_default="the default one")] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Which languages a model can read, by its tokenizer. What it cannot read is not found by searches."""
    from embedfleet.inference.catalogue import Catalogue
    from embedfleet.tokenising import known_languages

    settings = settings_here(data_dir, config)
    model = name or settings.models.default
    known = known_languages(Catalogue(settings.models).info(model))
    if as_json:
        shares = {language: round(share, 3) for language, share in known.shares.items()}
        print_json({"model": model, "languages": shares, "spells_in_bytes": known.spells_in_bytes})
        return
    if known.spells_in_bytes:
        say(f"model `{model}` takes any text as bytes: its tokenizer does not tell which languages it knows")
        return
    good = [language for language, share in known.shares.items() if share >= _KNOWN]
    say(f"model `{model}` knows the writing of: {', '.join(good) or '-'}")
    others = sorted((share, language) for language, share in known.shares.items() if share < _KNOWN)
    if others:
        say_table(
            ("language", "known"), [(language, f"{share:.0%}") for share, language in others], right=(1,)
        )
