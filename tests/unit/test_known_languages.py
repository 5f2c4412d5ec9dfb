"""Which languages a model can read is measured on its tokenizer."""

from __future__ import annotations

from embedfleet.inference.catalogue import Catalogue
from embedfleet.settings import ModelsSettings
from embedfleet.tokenising import known_languages


def test_the_default_model_reads_german_and_neither_thai_nor_burmese() -> None:
    known = known_languages(Catalogue(ModelsSettings()).info("minilm"))
    assert not known.spells_in_bytes
    assert known.shares["English"] == known.shares["German"] == 1.0
    assert max(known.shares["Thai"], known.shares["Burmese"]) < 0.2
    assert 0.2 < known.shares["Chinese (simplified)"] < 0.6
