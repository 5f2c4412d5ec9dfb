"""Characters of the fonts Symbol and Wingdings, whose codes are no Unicode, as what they show."""

from __future__ import annotations

_SYMBOL_FIRST = 0x20
# The font Symbol from 0x20 to 0x7E, then from 0xA1 to 0xFE, as in Unicode's table of Adobe's Symbol encoding.
_SYMBOL_LOW = (
    " !∀#∃%&∋()∗+,−./0123456789:;<=>?≅ΑΒΧΔΕΦΓΗΙϑΚΛΜΝΟΠΘΡΣΤΥςΩΞΨΖ[∴]⊥_‾αβχδεφγηιϕκλμνοπθρστυϖωξψζ{|}∼"
)
_SYMBOL_HIGH_FIRST = 0xA1
_SYMBOL_HIGH = (
    "ϒ′≤⁄∞ƒ♣♦♥♠↔←↑→↓°±″≥×∝∂•÷≠≡≈…⏐⎯↵ℵℑℜ℘⊗⊕∅∩∪⊃⊇⊄⊂⊆∈∉∠∇®©™∏√⋅¬∧∨⇔⇐⇑⇒⇓◊〈®©™∑⎛⎜⎝⎡⎢⎣⎧⎨⎩⎪ 〉∫⌠⎮⌡⎞⎟⎠⎤⎥⎦⎫⎬⎭"
)
_WINGDINGS = {
    0x22: "✂", 0x28: "☎", 0x2A: "✉", 0x36: "⌛", 0x41: "✌", 0x43: "👍", 0x44: "👎", 0x45: "☜", 0x46: "☞",
    0x4A: "☺", 0x4B: "😐", 0x4C: "☹", 0x4E: "☠", 0x52: "☼", 0x6C: "●", 0x6E: "■", 0x6F: "□", 0x71: "❑",
    0x75: "◆", 0x76: "❖", 0x9F: "•", 0xA7: "▪", 0xA8: "☐", 0xAB: "★", 0xB6: "☆", 0xD8: "➢", 0xDF: "←",
    0xE0: "→", 0xE1: "↑", 0xE2: "↓", 0xE8: "➔", 0xEF: "⇦", 0xF0: "⇨", 0xF1: "⇧", 0xF2: "⇩", 0xF3: "⇔",
    0xFB: "✗", 0xFC: "✓", 0xFD: "☒", 0xFE: "☑",
}  # fmt: skip
_WINGDINGS_2 = {0x4F: "✗", 0x50: "✓", 0x51: "☒", 0x52: "☑", 0x53: "☒", 0x54: "☒", 0xA3: "☐"}
_SYMBOL = {
    **{_SYMBOL_FIRST + place: char for place, char in enumerate(_SYMBOL_LOW)},
    **{_SYMBOL_HIGH_FIRST + place: char for place, char in enumerate(_SYMBOL_HIGH)},
}
_FONTS = {"symbol": _SYMBOL, "wingdings": _WINGDINGS, "wingdings 2": _WINGDINGS_2}
_PRIVATE_FIRST, _PRIVATE_LAST = 0xF000, 0xF0FF
"""Office writes a character of such a font as its code plus 0xF000."""


def shown(code: int, font: str | None) -> str | None:
    """Return the character that a font shows for a code; None if that is not known."""
    if _PRIVATE_FIRST <= code <= _PRIVATE_LAST:
        code -= _PRIVATE_FIRST
    return _FONTS.get((font or "").lower(), {}).get(code)


def has_private_characters(text: str) -> bool:
    """Whether some characters of a text depend on the font in which they are shown."""
    return any("\uf000" <= char <= "\uf0ff" for char in text)
