"""Content that a file has twice: for programs that know an extension, and for those that do not."""

from __future__ import annotations

from xml.etree.ElementTree import Element

ALTERNATIVES = "mc:AlternateContent"
_TEXTS = ("w:t", "a:t", "m:t")


def chosen(alternatives: Element) -> Element | None:
    """Return the one alternative to read: the first, unless only the fallback has text."""
    choice, fallback = alternatives.find("mc:Choice"), alternatives.find("mc:Fallback")
    if choice is None or (fallback is not None and not _has_text(choice) and _has_text(fallback)):
        return fallback
    return choice


def _has_text(element: Element) -> bool:
    return any(text.text for tag in _TEXTS for text in element.iter(tag))
