"""The text of a message's text parts: paragraphs that mail programs wrap, signatures and keys, HTML."""

from __future__ import annotations

import binascii
import codecs
import io
import re
from dataclasses import dataclass, field

from embedfleet.account_codes import Code
from embedfleet.parsing.draft import Draft

_SIGNATURE_LINE = "-- "
_ARMOUR = re.compile(r"-----(BEGIN|END) PGP ([A-Z ]{3,40}?)(?:, PART [\dA-Z/]+)?-----\s*")
_UUENCODED = re.compile(r"begin [0-7]{3,4} (\S.{0,200})")


@dataclass(slots=True)
class Body:
    """A text, and the files that old mail programs have written into it (uuencode)."""

    text: str
    files: list[tuple[str, bytes]] = field(default_factory=list)


def unwrapped(text: str, *, delete_space: bool) -> str:
    """Return text of `format=flowed` (RFC 3676) with its paragraphs in one line each.

    `delete_space`: the blank at the end of a line is none of the text (DelSp), as in Chinese.
    """
    lines: list[str] = []
    flows, depth_before = False, 0
    for line in text.split("\n"):
        depth = len(line) - len(line.lstrip(">"))
        content = line[depth:].removeprefix(" ")
        if flows and depth == depth_before and content != _SIGNATURE_LINE:
            lines[-1] += content
        else:
            lines.append(">" * depth + " " * bool(depth) + content)
        flows = content.endswith(" ") and content != _SIGNATURE_LINE
        if flows and delete_space:
            lines[-1] = lines[-1][:-1]
        depth_before = depth
    return "\n".join(lines)


def without_armour(text: str, draft: Draft) -> str:
    """Return the text without PGP's signatures and keys. What is encrypted is lost, and noted."""
    if "-----BEGIN PGP" not in text:
        return text
    kept: list[str] = []
    block = ""  # the kind of the block that the line is in
    in_head = False
    for line in text.split("\n"):
        if mark := _ARMOUR.fullmatch(line):
            block = mark[2] if mark[1] == "BEGIN" else ""
            in_head = block == "SIGNED MESSAGE"
            if block == "MESSAGE":
                draft.note(Code.MAIL_ENCRYPTED, chars=None, place="PGP")
            elif block and not in_head:
                draft.note(Code.MAIL_SIGNATURE)
        elif block == "SIGNED MESSAGE":
            if not in_head:
                kept.append(line.removeprefix("- "))
            in_head = in_head and bool(line.strip())
        elif not block:
            kept.append(line)
    return "\n".join(kept)


def without_files(text: str) -> Body:
    """Return the text, and the files between its lines `begin 644 name` and `end`."""
    if "\nend" not in text or "begin " not in text:
        return Body(text)
    body = Body("")
    kept: list[str] = []
    name, begun, data = "", 0, bytearray()
    for line in text.split("\n"):
        if name and line.strip() == "end":
            body.files.append((name, bytes(data)))
            del kept[begun:]
            name = ""
        elif name and (decoded := _uudecoded(line)) is not None:
            kept.append(line)
            data += decoded
        else:
            match = _UUENCODED.fullmatch(line.rstrip())
            name, begun, data = (match[1], len(kept), bytearray()) if match else ("", 0, bytearray())
            kept.append(line)
    body.text = "\n".join(kept)
    return body


def _uudecoded(line: str) -> bytes | None:
    try:
        return binascii.a2b_uu(line)
    except (binascii.Error, ValueError):
        return None


def html_text(html: str, draft: Draft) -> str:
    """Return the text of a page as Markdown. What it lacks is noted in the draft's account."""
    from embedfleet.parsing.html import read_html  # takes 100 ms, and many messages are plain text

    pieces: list[str] = []
    part = draft.part(pieces.append)
    read_html(io.BytesIO(codecs.BOM_UTF8 + html.encode("utf-8", "replace")), part)
    part.finish()
    draft.account.include(part.account.account)
    return "".join(pieces)
