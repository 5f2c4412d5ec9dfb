"""The language of a text, by a detector that is in the package and needs no download."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from embedfleet.settings.routing import LANGUAGES

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

# The detector is sure of ordinary prose after 200 characters, and needs 0.1 ms for 1,000. A sample from four
# places shows a text in two languages, and does not stop at a preface in another one.
_SAMPLES = 4
_SAMPLE_CHARS = 1_000
# What the detector says of digits and symbols. With it, such text is in none of the other languages.
_NO_LANGUAGE = "zxx"


@dataclass(frozen=True, slots=True)
class Language:
    """A language (ISO 639-1; None: the text has none) and how sure the detector is of it, from 0 to 1."""

    code: str | None
    confidence: float


def language_of(text: str) -> Language:
    """Return the likeliest language of a text: the same answer for the same text on every machine.

    A short or mixed text gives a low confidence. Of a long text, samples from its whole length count.
    """
    code, confidence = _detector().classify(_sample(text))
    return Language(None if code == _NO_LANGUAGE else code, confidence)


def _sample(text: str) -> str:
    if len(text) <= _SAMPLES * _SAMPLE_CHARS:
        return text
    step = (len(text) - _SAMPLE_CHARS) / (_SAMPLES - 1)
    starts = (round(place * step) for place in range(_SAMPLES))
    return "\n".join(text[start : start + _SAMPLE_CHARS] for start in starts)


@cache
def _detector() -> LanguageIdentifier:
    # By need: it takes 0.3 s and 90 MB, which only rules about languages are worth.
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    detector = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    # Without dialects such as Wu, which would share the confidence with their language.
    detector.set_languages([*LANGUAGES, _NO_LANGUAGE])
    return detector
