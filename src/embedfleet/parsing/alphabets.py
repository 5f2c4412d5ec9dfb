"""Tells how unlikely the letters of a text are, whatever its language: a sign of a wrong encoding."""

from __future__ import annotations

import re
import unicodedata

from embedfleet.parsing.wide_encodings import is_rare

_MAX_CHARS = 4000
"""How much of a text is looked at: more does not change the share."""

# The letters that languages have beside a to z. A text in Latin script keeps to those of one language.
_ALPHABETS = tuple(
    frozenset(letters + letters.upper())
    for letters in (
        "éèêëàâçîïôùûüœæÿ",  # French
        "áéíóúüñºª",  # Spanish, Irish
        "áàâãçéêíóôõúüºª",  # Portuguese
        "àèéìíòóùúîº",  # Italian
        "éèëïóöüáêíúĳ",  # Dutch
        "åäöéüæø",  # Swedish, Finnish
        "æøåéäöáó",  # Danish, Norwegian
        "äöüßéàèêáç",  # German, with loanwords
        "áéíóúýðþæöø",  # Icelandic, Faroese
        "àçèéíïòóúü·ñ",  # Catalan
        "âêîôûŵŷäëïöüáéàèẅẁẃÿỳŷ",  # Welsh
        "ëç",  # Albanian
        "áčďéěíňóřšťúůýž",  # Czech
        "áäčďéíĺľňóôŕšťúýž",  # Slovak
        "ąćęłńóśźż",  # Polish
        "áéíóöőúüű",  # Hungarian
        "čćđšžé",  # Croatian, Bosnian, Serbian, Slovenian
        "ăâîșțşţ",  # Romanian, with the cedillas of old code pages
        "çğıöşüâîûİ",  # Turkish
        "çəğıöşüİ",  # Azerbaijani
        "äõöüšž",  # Estonian
        "āčēģīķļņōŗšūž",  # Latvian
        "ąčęėįšųūž",  # Lithuanian
        "ĉĝĥĵŝŭ",  # Esperanto
        "ċġħżàèìòù",  # Maltese
        "ăâêôơưđàáảãạèéẻẽẹìíỉĩịòóỏõọùúủũụỳýỷỹỵằắẳẵặầấẩẫậềếểễệồốổỗộờớởỡợừứửữự",  # Vietnamese
    )
)
# Where scripts end in Unicode. Between these are accents and scripts that have no code page.
_SCRIPTS = (
    (0x250, "Latin"),
    (0x370, ""),
    (0x400, "Greek"),
    (0x530, "Cyrillic"),
    (0x590, ""),
    (0x600, "Hebrew"),
)
# Signs that stand within a word or directly at one. Others of mathematics and currencies stand alone.
_BESIDE_WORDS = frozenset("’‘·'\u00ad\u200c\u200d–—-‑°©®™№")
_NO_SIGNS_OF_PROSE = frozenset({"Sm", "So", "Sc", "Sk"})
# In Thai, a third of the characters are vowels and tone marks.
_THAI = re.compile("[\u0e01-\u0e5b]")
_THAI_VOWEL = re.compile("[\u0e30-\u0e4e]")
_MIN_THAI, _MIN_VOWELS = 6, 0.15
_EAST_ASIA = "\u2e80"
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")
# Albanian has hardly any letter but ë, which is easily read as ė. In Lithuanian, one in four of the letters
# outside of ASCII is ė.
_ONE_OF_SEVERAL = "ė"
_MAX_SHARE_OF_ONE = 0.8
_MIN_LETTERS = 2


def share_of_unlikely_letters(text: str) -> float:
    """Return the share, 0 to 1, of the characters outside of ASCII that a text of any language hardly has.

    Unlikely are control characters, capitals after small letters, a letter three times in a row, letters of
    two scripts in one word, signs within words, rare ideographs, and Latin letters of several alphabets.
    """
    text = text[:_MAX_CHARS]
    places = [match.start() for match in _NOT_ASCII.finditer(text)]
    unlikely = sum(_is_unlikely(text, place) for place in places)
    latin = [text[place] for place in places if text[place].isalpha() and text[place] < "\u0250"]
    unlikely += _strangers(latin) + _thai_without_vowels(text)
    return min(1.0, unlikely / len(places)) if places else 0.0


def _strangers(letters: list[str]) -> int:
    """How many of these letters are not in the alphabet that has the most of them."""
    alike = letters.count(_ONE_OF_SEVERAL)
    if alike >= _MIN_LETTERS and alike > len(letters) * _MAX_SHARE_OF_ONE:
        return len(letters)
    return len(letters) - max(sum(letter in alphabet for letter in letters) for alphabet in _ALPHABETS)


def _thai_without_vowels(text: str) -> int:
    letters = len(_THAI.findall(text))
    vowels = len(_THAI_VOWEL.findall(text))
    return letters if letters >= _MIN_THAI and vowels < letters * _MIN_VOWELS else 0


def _is_unlikely(text: str, place: int) -> bool:
    char = text[place]
    before = text[place - 1] if place else " "
    after = text[place + 1] if place + 1 < len(text) else " "
    if "\x80" <= char < "\xa0":
        return True
    if char >= _EAST_ASIA:
        return is_rare(char)
    if char == "\xa0":
        return before.isalpha() and after.isspace()
    if not char.isalpha():
        return _is_odd_sign(char, before, after)
    if (char.isupper() and before.islower()) or text[max(0, place - 2) : place] == 2 * char:
        return True
    script = _script(char)
    return bool(script) and any(_script(one) not in ("", script) for one in (before, after) if one.isalpha())


def _is_odd_sign(sign: str, before: str, after: str) -> bool:
    neighbours = before.isalpha() + after.isalpha()
    if sign in _BESIDE_WORDS or unicodedata.combining(sign):
        return False
    return neighbours == 2 or (neighbours == 1 and unicodedata.category(sign) in _NO_SIGNS_OF_PROSE)


def _script(letter: str) -> str:
    """The script of a letter; empty if its words may be mixed with others."""
    return next((name for end, name in _SCRIPTS if ord(letter) < end), "")
