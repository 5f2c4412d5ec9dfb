"""Writes attachments: each through the reader of its format, below a heading with its name."""

from __future__ import annotations

import io
import mimetypes

from embedfleet.account_codes import Code
from embedfleet.errors import EmptyDocument, ParseError
from embedfleet.parsing.draft import Draft
from embedfleet.parsing.extract import extract
from embedfleet.parsing.formats import Format, format_of

_MOST_LEVELS = 5  # a message in a message in … : more is hostile
_LONGEST_NAME = 100
_UNREADABLE = ("image/", "audio/", "video/", "font/")
_FENCE = "`````"  # longer than those of any sane source code


def write_attachment(data: bytes, name: str, media_type: str, draft: Draft) -> None:
    """Write the text of an attachment; note it as lost, with the reason, if it cannot be read."""
    name = "".join(filter(str.isprintable, name)).strip()[:_LONGEST_NAME]
    name = name or f"without a name, {media_type}"
    if media_type.startswith(_UNREADABLE) and format_of(name) is None:
        _lose(draft, f"{name} ({media_type})")
        return
    pieces: list[str] = []
    part = draft.part(pieces.append)
    if part.depth > _MOST_LEVELS:
        _lose(draft, f"{name} is nested too deeply")
        return
    try:
        content_type = extract(io.BytesIO(data), _format(name, media_type), part)
    except EmptyDocument:
        return
    except ParseError as exc:
        _lose(draft, f"{name} {str(exc).partition(':')[0]}")
        return
    draft.account.include(part.account.account, place=name)
    draft.found("attachments")
    text = "".join(pieces).strip("\n")
    if content_type == "code":
        text = f"{_FENCE}\n{text}\n{_FENCE}"
    draft.write(f"\n\n# Attachment: {name}\n\n{text}\n")


def _format(name: str, media_type: str) -> Format | None:
    """The format by the name, or else by the media type; None: the first bytes tell."""
    suffix = mimetypes.guess_extension(media_type, strict=False) or ""
    return format_of(name) or format_of(f"x{suffix}")


def _lose(draft: Draft, place: str) -> None:
    draft.note(Code.MAIL_ATTACHMENT, chars=None, place=place)
