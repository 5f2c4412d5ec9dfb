"""Leaves out encoded data that stands in a text: data URIs, base64, hexadecimal and escaped bytes.

A picture of 100 kB in a page would make hundreds of chunks that say nothing. Only what cannot be language is
left out: long identifiers, URLs, sequences of genes or digits, and text without spaces stay.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise

from embedfleet.account import AccountKeeper
from embedfleet.account_codes import Code
from embedfleet.visible_text import letters_in

_LEAST_CHARS = 200
"""A shorter run stays: keys, checksums and tokens, which people search for, are up to 128 characters long."""
_LEAST_BYTES = 48
"""This number of escaped bytes (`\\x89` or `0x89,`) in a row is data; a key of 32 bytes stays."""
_MOST_HELD = 4096
"""How many characters are kept until the next piece shows how they go on."""
_WINDOW = 32
# A run of twice the window covers one of the windows that begin at each multiple of it.

_CODED = r"[A-Za-z0-9+/_\-]"
_LINE = rf"[ \t>\"'+#*/]{{0,40}}{_CODED}{{56,400}}={{0,2}}[ \t\"'+,;\\]{{0,8}}\n"  # 64 in PEM, 76 in mail
_HEX_BYTE = r"0[xX][0-9A-Fa-f]{1,2}"
_BLOB = re.compile(
    # 1. A data URI, alone or as the target of a Markdown image, of which the description stays.
    r"(?P<image>!\[(?P<alt>[^\]\n]{0,500})\]\(\s{0,2}<?)?"
    r"(?P<uri>\bdata:[\w.+-]{0,60}/?[\w.+-]{0,80}(?:;[\w=.+-]{1,60}){0,4};base64,[ ]?[A-Za-z0-9+/=_%-]*+"
    r"|(?<=\")data:(?:image|font|audio|video|application)/[^\"\n]{0,200}?,[^\"\n]*+"
    r"|(?<=')data:(?:image|font|audio|video|application)/[^'\n]{0,200}?,[^'\n]*+"
    r"|\bdata:(?:image|font|audio|video|application)/[^\s\"'(),<>]{0,200},[^\s\"'()<>]*+)"
    r"(?(image)>?(?:[ ]\"[^\"\n]{0,500}\")?\)?)"
    # 2. Lines of base64, as in mail, certificates, and strings of source code.
    rf"|(?P<lines>(?:^{_LINE}){{3,}}+(?:^[ \t>\"'+#*/]{{0,40}}{_CODED}{{1,400}}={{0,2}}(?=[\"';,\s]|$))?)"
    # 3. One unbroken run.
    rf"|(?P<run>{_CODED}{{{_LEAST_CHARS},}}+={{0,2}})"
    rf"|(?P<bytes>(?:\\x[0-9A-Fa-f]{{2}}){{{_LEAST_BYTES},}}+"
    rf"|(?:{_HEX_BYTE}\s{{0,3}},\s{{0,200}}){{{_LEAST_BYTES},}}+(?:{_HEX_BYTE})?)",
    re.MULTILINE,
)
_ALL_CODED = re.compile(r"[A-Za-z0-9+/_=\\\-]+")
_MEDIA = ("image/", "font/", "audio/", "video/", "application/")
_ARRAY_OF_BYTES = re.compile(rf"(?:{_HEX_BYTE}\s{{0,3}},\s{{0,200}}){{{_LEAST_BYTES},}}+")
_REST_OF_RUN = re.compile(r"[A-Za-z0-9+/=_%-]*+")
_LINE_OF_BLOB = re.compile(_LINE)
_REPEATED = re.compile(r"(.)\1{3,}")
_AROUND_LINES = re.compile(r"[ \t>\"'#*,;\\\n]+")
_URL_BEFORE = re.compile(r"\b[A-Za-z]{2,12}://[^\s\"'<>]*$")
_LONGEST_URL = 2000  # browsers take no longer ones everywhere
_HEXADECIMAL = re.compile(r"[0-9a-f]+|[0-9A-F]+")
_SHORTEST_URI = 48  # `data:image/png;base64,` alone is what a text about data URIs says

Emit = Callable[[str], None]


class BlobFilter:
    """Hands on the text that is written to it, without encoded data, which it notes in the account.

    It holds back at most a few lines: `flush` hands these on.
    """

    def __init__(self, emit: Emit, account: AccountKeeper) -> None:
        self._emit = emit
        self._account = account
        self._held = ""
        self._line = 1
        self._in_run = False
        self._blob_line = 0
        self._blob_chars = 0

    def write(self, text: str) -> None:
        """Take the next piece of the text."""
        text = self._held + text
        certain = len(text) - _uncertain_end(text)
        self._held = text[certain:]
        self._hand_on(text[:certain])

    def flush(self) -> None:
        """Hand on what is held back."""
        held, self._held = self._held, ""
        self._hand_on(held)
        self._note()

    def _hand_on(self, text: str) -> None:
        at = 0
        if self._in_run and (rest := _REST_OF_RUN.match(text)):
            at = rest.end()
            self._leave_out(rest[0])
            self._in_run = at == len(text)
        for found in _blobs(text, at):
            self._keep(text[at : found.start()] + (found["alt"] or ""))
            self._leave_out(found[0])
            at = found.end()
            self._in_run = at == len(text) and found.lastgroup in ("uri", "run")
        self._keep(text[at:])

    def _keep(self, text: str) -> None:
        if text:
            self._note()
            self._line += text.count("\n")
            self._emit(text)

    def _leave_out(self, blob: str) -> None:
        self._blob_line = self._blob_line or self._line
        self._blob_chars += letters_in(blob)
        self._line += blob.count("\n")

    def _note(self) -> None:
        """Note the blob that has ended: a long one may have come in several pieces."""
        if self._blob_line:
            place = f"line {self._blob_line}"
            self._account.note(Code.ENCODED_DATA, chars=self._blob_chars, place=place)
            self._blob_line = self._blob_chars = 0


def _blobs(text: str, start: int) -> Iterator[re.Match[str]]:
    """The blobs from `start` on, in order. They are looked for only in lines that may have one."""
    for region in _regions(text, start):
        for found in _BLOB.finditer(text, *region):
            if _is_blob(found):
                yield found


def _regions(text: str, start: int) -> Iterator[tuple[int, int]]:
    """The spans of whole lines, in order and apart, that may have a blob.

    These have a run without white space, or what begins a blob that has white space. To find them takes 4 ms
    for a megabyte, a fiftieth of a search for blobs everywhere.
    """
    spans = _data_uris(text, start)
    if text.count("0x") > _LEAST_BYTES:  # few texts have that, and the search is slow
        spans.extend(found.span() for found in _ARRAY_OF_BYTES.finditer(text, start))
    for at in range(start, len(text) - _WINDOW + 1, _WINDOW):
        window = text[at : at + _WINDOW]
        if " " not in window and "\n" not in window and _ALL_CODED.fullmatch(window):
            spans.append((at, at + _WINDOW))
    first = certain = end = start
    for begin, stop in sorted(spans):
        if stop <= certain:
            continue
        line = text.rfind("\n", end, begin) + 1 or end
        if line > end:
            yield first, end
            first = line
        certain = _line_end(text, stop)
        end = _line_end(text, certain)  # the last line of base64 may be short
    yield first, end


def _data_uris(text: str, start: int) -> list[tuple[int, int]]:
    """Where data URIs begin: one that holds a drawing as text may have spaces."""
    found = []
    at = text.find("data:", start)
    while at >= 0:
        if text.startswith(_MEDIA, at + len("data:")):
            found.append((at, at + len("data:")))
        at = text.find("data:", at + 1)
    return found


def _line_end(text: str, at: int) -> int:
    return text.find("\n", at) + 1 or len(text)


def _uncertain_end(text: str) -> int:
    """How many characters at the end may belong to a blob that the next piece completes."""
    tail = text[-_MOST_HELD:]
    start = max(tail.rfind("\n"), tail.rfind(" ")) + 1
    if start == 0 and len(tail) == _MOST_HELD:
        return 0  # long enough to be judged as it is
    # A line of base64 counts only together with the lines around it.
    while start and tail[start - 1] == "\n":
        line_start = tail.rfind("\n", 0, start - 1) + 1
        if not _LINE_OF_BLOB.fullmatch(tail, line_start, start):
            break
        start = line_start
    return len(tail) - start


def _is_blob(found: re.Match[str]) -> bool:
    if found["uri"] is not None:
        return len(found["uri"]) >= _SHORTEST_URI
    if found["bytes"] is not None:
        return True
    if found["lines"] is not None:
        return _is_coded(_AROUND_LINES.sub("", found["lines"]))
    before = found.string[max(0, found.start() - _LONGEST_URL) : found.start()]
    in_url = len(found["run"]) < _LONGEST_URL and _URL_BEFORE.search(before)
    return not in_url and _is_coded(found["run"])


def _is_coded(run: str) -> bool:
    """Whether a run of letters, digits, `+`, `/`, `-`, `_` and `=` is base64 or hexadecimal.

    In base64 of any data, about 40% of the characters are capitals, 40% small letters and 15% digits, and
    most stand beside one of another class. In names and words, most stand beside one of their own class.
    """
    core = _REPEATED.sub(r"\1", run)  # empty parts of a picture are runs of "A"
    size = len(core)
    if len(run) < _LEAST_CHARS or size < _LEAST_CHARS // 4:
        return False
    counts = Counter(core)
    if _HEXADECIMAL.fullmatch(core.replace("-", "")):
        letters = sum(counts[letter] for letter in "abcdefABCDEF")
        return letters > 0 and len(counts) >= 14  # a number has no letters, a gene four
    kinds = [_kind(character) for character in core[:_MOST_HELD]]
    size = len(kinds)
    changes = sum(left != right for left, right in pairwise(kinds))
    return (
        min(kinds.count("u"), kinds.count("l")) >= size * 0.22
        and max(kinds.count("u"), kinds.count("l")) <= size * 0.6
        and kinds.count("d") >= size * 0.03
        and changes >= size * 0.4
    )


def _kind(character: str) -> str:
    if character.isdigit():
        return "d"
    if character.isupper():
        return "u"
    return "l" if character.islower() else "-"
