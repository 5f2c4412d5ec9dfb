"""Numbers of a workbook as it shows them: dates, percentages, currencies, leading zeros.

Dates are written as ISO 8601, whatever order of day and month the format asks for.
"""

from __future__ import annotations

import math
import re
from datetime import datetime, timedelta
from functools import lru_cache

# The formats that a workbook does not define, by their numbers.
BUILT_IN: dict[int, str] = {
    0: "General", 1: "0", 2: "0.00", 3: "#,##0", 4: "#,##0.00", 9: "0%", 10: "0.00%", 11: "0.00E+00",
    12: "General", 13: "General", 14: "yyyy-mm-dd", 15: "d-mmm-yy", 16: "d-mmm", 17: "mmm-yy", 18: "h:mm",
    19: "h:mm:ss", 20: "h:mm", 21: "h:mm:ss", 22: "yyyy-mm-dd h:mm", 37: "#,##0", 38: "#,##0",
    39: "#,##0.00", 40: "#,##0.00", 45: "mm:ss", 46: "[h]:mm:ss", 47: "mm:ss", 48: "0.0E+0", 49: "@",
    **dict.fromkeys((*range(27, 37), *range(50, 59)), "yyyy-mm-dd"),
}  # fmt: skip
_QUOTED = re.compile(r'"[^"]*"|\\.|_.|\*.|\[[^\]]*\]')
_ELAPSED = re.compile(r"\[[hms]+\]", re.IGNORECASE)
_CURRENCY = re.compile(r"\[\$([^\]-]*)(?:-[^\]]*)?\]")
_PLACEHOLDERS = re.compile(r"[#0?](?:[#0?,. ]*[#0?])?,*")
_LAST_SERIAL = 2_958_466  # 31 December 9999, the last day that Excel and Python know
_MOST_DECIMALS = 15
_MOST_ZEROS = 30


def shown_number(value: float, code: str, *, from_1904: bool) -> str:
    """Return a number as a format shows it. Fractions and what is not known here are shown plainly."""
    if not math.isfinite(value):
        return str(value)
    sections = _sections(code)
    is_negative = value < 0 and len(sections) > 1
    section = sections[1 if is_negative else 2 if value == 0 and len(sections) > 2 else 0]
    if _is_date(section):
        return _date(value, section, from_1904=from_1904)
    return _number(abs(value) if is_negative else value, section) or plain(value)


def plain(value: float) -> str:
    """Return a number with as many digits as it has, without those that binary fractions add."""
    if value == int(value) and abs(value) < 1e15:
        return str(int(value))
    return format(value, ".15g")


@lru_cache(maxsize=1024)
def _sections(code: str) -> list[str]:
    """Return the parts of a format for positive numbers, negative ones and zero."""
    hidden = _QUOTED.sub(lambda match: "\0" * len(match[0]), code)
    ends = [place for place, char in enumerate(hidden) if char == ";"]
    return [code[start + 1 : end] for start, end in zip([-1, *ends], [*ends, len(code)], strict=True)]


@lru_cache(maxsize=1024)
def _is_date(section: str) -> bool:
    if _ELAPSED.search(section):
        return True
    bare = _QUOTED.sub("", section)
    return (
        bare.lower() != "general"
        and bool(re.search(r"[ymdhs]", bare, re.IGNORECASE))
        and "e+" not in bare.lower()
    )


def _date(value: float, section: str, *, from_1904: bool) -> str:
    if (elapsed := _ELAPSED.search(section)) is not None:
        return _elapsed(value, elapsed[0][1].lower(), section)
    bare = _QUOTED.sub("", section).lower()
    has_time = "h" in bare or "s" in bare
    has_date = "y" in bare or "d" in bare or not has_time
    # Serial 60 is the 29 February 1900, which never was; so days before it count from another day.
    start = datetime(1904, 1, 1) if from_1904 else datetime(1899, 12, 31 if value < 60 else 30)
    if not 0 <= value < _LAST_SERIAL:
        return plain(value)
    moment = start + timedelta(seconds=round(value * 86_400))
    if not has_date:
        return moment.strftime("%H:%M:%S" if "s" in bare else "%H:%M")
    if has_time:
        return moment.isoformat(" ", "seconds" if "s" in bare else "minutes")
    if "d" not in bare:
        return moment.strftime("%Y-%m" if "m" in bare else "%Y")
    return moment.date().isoformat()


def _elapsed(value: float, unit: str, section: str) -> str:
    seconds = round(abs(value) * 86_400)
    sign = "-" if value < 0 else ""
    if unit == "s":
        return f"{sign}{seconds}"
    minutes, seconds = divmod(seconds, 60)
    shown_seconds = f":{seconds:02}" if "s" in section.lower() else ""
    if unit == "m":
        return f"{sign}{minutes}{shown_seconds}"
    return f"{sign}{minutes // 60}:{minutes % 60:02}{shown_seconds}"


def _number(value: float, section: str) -> str:
    """Return the number with the literals of the section around it; "" if the section has no number."""
    bare = _literal(section)
    if bare.lower().strip() in ("general", "@", ""):
        return ""
    bare, texts = _without_texts(section)
    match = _PLACEHOLDERS.search(bare)
    if match is None or "/" in bare:
        return ""
    digits = _digits(value, match[0], bare)
    rest = bare[match.end() :]
    if (exponent := re.match(r"[eE][+-]?0+", rest)) is not None:
        rest = rest[exponent.end() :]
    if re.search("[0#?]", rest):
        return ""  # texts between the digits, as in telephone numbers
    shown = bare[: match.start()] + digits + rest
    return re.sub("[\ue000-\uefff]", lambda char: texts[ord(char[0]) - 0xE000], shown).strip()


def _digits(value: float, placeholders: str, section: str) -> str:
    whole, _, decimals = placeholders.partition(".")
    places = min(sum(char in "0#?" for char in decimals), _MOST_DECIMALS)
    if "%" in section:
        value *= 100
    last = decimals or whole
    value /= 1000.0 ** (len(last) - len(last.rstrip(",")))  # each comma at the end divides by a thousand
    if re.search(r"[eE][+-]?0", section):
        return f"{value:.{places}E}"
    # Numbers with a half as last digit are rounded away from zero, as spreadsheets do.
    rounded = float(f"{value + math.copysign(abs(value) * 1e-15, value):.{places}f}")
    text = f"{rounded:,.{places}f}" if "," in whole.rstrip(",") else f"{rounded:.{places}f}"
    optional = len(decimals) - len(decimals.rstrip("#?"))
    while optional and text.endswith("0") and "." in text:
        text, optional = text[:-1], optional - 1
    text = text.rstrip(".") if "." in text else text
    zeros = min(whole.count("0"), _MOST_ZEROS)
    sign, text = ("-", text[1:]) if text.startswith("-") else ("", text)
    number, point, rest = text.partition(".")
    return sign + number.rjust(zeros, "0") + point + rest


def _literal(section: str) -> str:
    return _QUOTED.sub("", section)


def _without_texts(section: str) -> tuple[str, list[str]]:
    """Return the section with a stand-in for each literal text, and these texts."""
    texts: list[str] = []

    def stand_in(match: re.Match[str]) -> str:
        part = match[0]
        if (currency := _CURRENCY.fullmatch(part)) is not None:
            text = currency[1]
        elif part[0] == '"':
            text = part[1:-1]
        else:
            text = part[1] if part[0] == "\\" else " " if part[0] == "_" else ""
        texts.append(text)
        return chr(0xE000 + len(texts) - 1)

    return _QUOTED.sub(stand_in, section[:255]), texts
