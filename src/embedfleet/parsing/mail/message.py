"""Messages in MIME (RFC 5322, 2045): the fields that people see, the best text, attachments.

Python's parser of messages takes everything, however broken. A text part is decoded by its declared encoding
where that fits, and else like a file without a declaration.
"""

from __future__ import annotations

import email
import re
from collections.abc import Iterator
from email import policy
from email.message import Message
from typing import BinaryIO

from embedfleet.account_codes import Code
from embedfleet.errors import ParseError
from embedfleet.parsing.draft import Draft
from embedfleet.parsing.formats import ContentType
from embedfleet.parsing.mail.attachments import write_attachment
from embedfleet.parsing.mail.bodies import html_text, unwrapped, without_armour, without_files
from embedfleet.parsing.mail.header_text import decoded, field_text
from embedfleet.visible_text import letters_in

SEEN_FIELDS = ("From", "To", "Cc", "Bcc", "Date", "Newsgroups", "Keywords", "Comments", "Subject")
"""The fields of the head that mail programs show, in the order in which they are written."""

_MOST_LEVELS = 20  # of parts inside of each other; real messages have up to 6
_LETTERS_OF_A_LETTER = 1000  # plain text this long is no "your program cannot show HTML"
_STUB_SHARE = 3  # a plain text with a third of the letters of the page is not all of it
_APPLE_LENGTH = re.compile(rb"\d{1,10}[ \t]*\r?\n")
_SIGNATURES = frozenset(
    {"application/pgp-signature", "application/pkcs7-signature", "application/x-pkcs7-signature"}
)
_ENCRYPTED = frozenset({"application/pkcs7-mime", "application/x-pkcs7-mime", "application/pgp-encrypted"})
_RAW_FILE_NAME = re.compile(r"""name\s*=\s*"?([^";\r\n]+)""", re.IGNORECASE)


def read_mail(stream: BinaryIO, draft: Draft) -> ContentType:
    """Write one message. Holds it in memory about three times."""
    data = stream.read()
    if first := _APPLE_LENGTH.match(data):  # .emlx: the length, the message, and a property list
        data = data[first.end() : first.end() + int(first[0])]
    return write_message(parsed(data.lstrip(b"\xef\xbb\xbf\r\n")), draft)


def parsed(data: bytes) -> Message:
    """Return the message. Raises ParseError if its parts are nested too deeply."""
    try:
        return email.message_from_bytes(data, policy=policy.compat32)
    except RecursionError as exc:
        raise ParseError("has parts that are nested too deeply: leave it out") from exc


def write_message(message: Message, draft: Draft, *, heading: str | None = None) -> ContentType:
    """Write the fields, the text and the attachments of a message, below a heading if one is given.

    The title of the draft is the subject, if there is no heading. Returns how the text is laid out.
    """
    writer = _Writer(draft)
    writer.message(message, heading)
    return writer.content_type


class _Writer:
    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self._level = 0
        self._has_body = False
        self.content_type: ContentType = "text"

    def message(self, message: Message, heading: str | None) -> None:
        fields = _fields(message, self._draft)
        subject = next((value for name, value in fields if name == "Subject"), "")
        if heading is None:
            self._draft.title = subject or None
        else:
            self._draft.write(f"# {heading}{subject}".rstrip() + "\n\n")
            self.content_type = "markdown"
        self._draft.found("messages")
        self._draft.write("".join(f"{name}: {value}\n" for name, value in fields) + "\n")
        self._has_body = False
        self._part(message)

    def _part(self, part: Message) -> None:
        self._level += 1
        if self._level > _MOST_LEVELS:
            self._draft.note(Code.MAIL_ATTACHMENT, chars=None, place="a part that is nested too deeply")
        elif part.is_multipart():
            self._several(part)
        else:
            self._single(part)
        self._level -= 1

    def _several(self, part: Message) -> None:
        media_type, parts = part.get_content_type(), _parts(part)
        if media_type == "multipart/alternative":
            self._alternative(parts)
        elif media_type == "multipart/encrypted":
            self._draft.note(Code.MAIL_ENCRYPTED, chars=None, place="PGP")
        elif media_type == "multipart/related":
            self._related(part, parts)
        elif media_type in ("message/rfc822", "message/global", "message/news"):
            for inner in parts:
                self._inner_message(inner)
        elif media_type.startswith("message/"):  # the report of a mail server: fields, no text
            for inner in parts:
                lines = (f"{name}: {field_text(value)}\n" for name, value in inner.raw_items())
                self._draft.write("".join(lines) + "\n")
        else:
            for inner in parts:
                self._part(inner)

    def _inner_message(self, message: Message) -> None:
        self._draft.write("\n\n")
        title, self._draft.title = self._draft.title, None
        self.message(message, "Message: ")
        self._draft.title = title
        self._has_body = True

    def _alternative(self, parts: list[Message]) -> None:
        """Write one of the forms of a text: the plain one, unless it is a stub of the page."""
        plain = next((part for part in parts if part.get_content_type() == "text/plain"), None)
        rich = next((part for part in reversed(parts) if _has_page(part)), None)
        if plain is None and rich is None:
            for part in parts:
                self._part(part)
            return
        for part in parts:
            if part is not plain and part is not rich:
                self._draft.note(Code.MAIL_OTHER_FORM, place=part.get_content_type())
        if plain is None or rich is None:
            self._part(plain or rich or parts[0])
            return
        letters = letters_in(_guessed_text(plain))
        pages = (part for part in rich.walk() if part.get_content_type() == "text/html")
        is_stub = letters < _LETTERS_OF_A_LETTER and letters * _STUB_SHARE < sum(
            letters_in(html_text(_guessed_text(page), Draft(lambda _: None))) for page in pages
        )
        self._draft.note(Code.MAIL_OTHER_FORM, place="text/plain" if is_stub else "text/html")
        self._part(rich if is_stub else plain)
        if not is_stub:
            self._files_of(rich)

    def _files_of(self, rich: Message) -> None:
        """Write the attachments that stand in the form that is not taken, as Apple's programs do it."""
        for part in rich.walk():
            media_type = part.get_content_type()
            if media_type == "text/css" and _is_of_page(part):
                self._draft.note(Code.MAIL_INLINE)
            elif not part.is_multipart() and not (media_type == "text/html" and _is_of_page(part)):
                self._single(part)

    def _related(self, part: Message, parts: list[Message]) -> None:
        """A page and what belongs to it: pictures and styles."""
        start = part.get_param("start")
        root = next((one for one in parts if start and one.get("Content-ID") == start), parts[0])
        self._part(root)
        for one in parts:
            if one is not root:
                self._part(one) if _is_for_people(one) else self._draft.note(Code.MAIL_INLINE)

    def _single(self, part: Message) -> None:
        media_type, name = part.get_content_type(), _file_name(part)
        is_attached = part.get_content_disposition() == "attachment" or (name and self._has_body)
        if media_type in _SIGNATURES:
            self._draft.note(Code.MAIL_SIGNATURE)
        elif media_type in _ENCRYPTED:
            self._draft.note(Code.MAIL_ENCRYPTED, chars=None, place="S/MIME" if name else "PGP")
        elif media_type.startswith("text/") and not is_attached:
            self._text(part, media_type)
        elif media_type.startswith("image/") and part.get_content_disposition() != "attachment":
            self._draft.note(Code.MAIL_INLINE, place=name or None)
        else:
            self._attachment(_content(part), name, media_type)

    def _text(self, part: Message, media_type: str) -> None:
        self._has_body = True
        try:
            text = decoded(_content(part), _charset(part), self._draft)
        except ParseError as exc:
            self._draft.note(Code.MAIL_ATTACHMENT, chars=None, place=f"text {str(exc).partition(':')[0]}")
            return
        if media_type == "text/html":
            self.content_type = "markdown"
            self._draft.write(html_text(text, self._draft) + "\n")
            return
        if str(part.get_param("format")).lower() == "flowed":
            text = unwrapped(text, delete_space=str(part.get_param("delsp")).lower() == "yes")
        body = without_files(without_armour(text, self._draft))
        self._draft.write(body.text.rstrip("\n") + "\n\n")
        for name, data in body.files:
            self._attachment(data, name, "application/octet-stream")

    def _attachment(self, data: bytes, name: str, media_type: str) -> None:
        self.content_type = "markdown"
        write_attachment(data, name, media_type, self._draft)


def _fields(message: Message, draft: Draft) -> list[tuple[str, str]]:
    """The fields that people see. The others are counted."""
    seen: dict[str, list[str]] = {name.lower(): [] for name in SEEN_FIELDS}
    for name, value in message.raw_items():
        if name.lower() in seen:
            seen[name.lower()].append(field_text(value))
        else:
            draft.note(Code.MAIL_FIELD, chars=letters_in(value))
    return [(name, value) for name in SEEN_FIELDS for value in seen[name.lower()] if value]


def _parts(part: Message) -> list[Message]:
    payload = part.get_payload()
    return [one for one in payload if isinstance(one, Message)] if isinstance(payload, list) else []


def _content(part: Message) -> bytes:
    content = part.get_payload(decode=True)
    return content if isinstance(content, bytes) else b""


def _charset(part: Message) -> str | None:
    charset = part.get_param("charset")
    return charset[2] if isinstance(charset, tuple) else charset


def _guessed_text(part: Message) -> str:
    """The text of a part, only to see how much it is."""
    try:
        return decoded(_content(part), _charset(part), Draft(lambda _: None))
    except ParseError:
        return ""


def _has_page(part: Message) -> bool:
    return any(one.get_content_type() == "text/html" for one in _within(part))


def _within(part: Message) -> Iterator[Message]:
    return part.walk()


def _is_for_people(part: Message) -> bool:
    """Whether a part beside a page is more than a picture or style of it."""
    media_type = part.get_content_type()
    is_page = media_type in ("text/html", "text/plain") or part.is_multipart()
    return is_page or part.get_content_disposition() == "attachment"


def _is_of_page(part: Message) -> bool:
    """Whether a part is the page or its styles, and not a file that is sent along."""
    return part.get_content_disposition() != "attachment" and not _file_name(part)


def _file_name(part: Message) -> str:
    name = part.get_filename() or ""
    if "\ufffd" in name:  # bytes above ASCII, which no head may have
        written = "".join(v for n, v in part.raw_items() if n.lower().startswith("content-"))
        raw = _RAW_FILE_NAME.search(written)
        name = raw[1] if raw else name
    return field_text(name)
