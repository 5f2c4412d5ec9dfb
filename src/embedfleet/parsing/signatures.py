"""Recognises formats by the first bytes of a file."""

from __future__ import annotations

import re

from embedfleet.parsing.formats import Format

HEAD_BYTES = 1024
"""How many bytes of a file the functions here need."""

ZIP = b"PK\x03\x04"
OLE2 = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
PDF = b"%PDF-"

_NOT_TEXT: tuple[tuple[bytes, str], ...] = (
    (PDF, "a PDF file"),
    (ZIP, "a ZIP archive (or a document made of one)"),
    (b"PK\x05\x06", "an empty ZIP archive"),
    (OLE2, "an old Microsoft Office document"),
    (b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF87a", "a GIF image"),
    (b"GIF89a", "a GIF image"),
    (b"II*\x00", "a TIFF image"),
    (b"MM\x00*", "a TIFF image"),
    (b"\x1f\x8b\x08", "gzip-compressed data"),
    (b"BZh", "bzip2-compressed data"),
    (b"\xfd7zXZ\x00", "xz-compressed data"),
    (b"\x28\xb5\x2f\xfd", "Zstandard-compressed data"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"\x7fELF", "a program (ELF)"),
    (b"MZ\x90\x00", "a program (Windows)"),
    (b"\xcf\xfa\xed\xfe", "a program (Mach-O)"),
    (b"\xca\xfe\xba\xbe", "a compiled class"),
    (b"\x00asm", "a WebAssembly module"),
    (b"SQLite format 3\x00", "an SQLite database"),
    (b"ID3", "an MP3 recording"),
    (b"OggS", "an Ogg recording"),
    (b"fLaC", "a FLAC recording"),
    (b"RIFF", "a RIFF recording or image"),
)

# Formats that are refused by name.
_UNREADABLE: tuple[tuple[bytes, Format], ...] = (
    (OLE2, Format.OLD_OFFICE),
    (b"\xffWPC", Format.WORDPERFECT),
    (b"\xe4\x52\x5c\x7b\x8c\xd8\xa7\x4d", Format.ONENOTE),
    (b"\x00\x01\x00\x00Standard Jet DB", Format.ACCESS),
    (b"\x00\x01\x00\x00Standard ACE DB", Format.ACCESS),
)


# Captions in a file of text: WebVTT, SubRip, SubStation, SubViewer, MicroDVD.
_CAPTIONS = re.compile(
    rb"(?:\xef\xbb\xbf)?(?:WEBVTT[^\r\n>]{0,200}\r?\n(?s:.{0,900})-->|\[Script Info\]|"
    rb"\s{0,20}\d{1,9}\s{1,20}\d{1,2}:\d\d:\d\d[,.]\d{1,3} +--> +\d{1,2}:\d\d:\d\d[,.]\d{1,3}|"
    rb"\d{1,2}:\d\d:\d\d\.\d{3},\d{1,2}:\d\d:\d\d\.\d{3}\r?\n|"
    rb"(?:\{\d{1,8}\}\{\d{1,8}\}[^\r\n]{0,300}\r?\n){2})"
)


_MAILBOX = re.compile(rb"From \S+ .{0,40}\d\d:\d\d(?::\d\d)?.{0,40}\r?\n[\w-]{1,60}:")
_FIELD = re.compile(rb"[\w-]{1,60}:|[ \t]")
_MAIL_FIELDS = {b"received", b"message-id", b"mime-version", b"return-path", b"delivered-to"}


def known_binary(head: bytes) -> str | None:
    """The name of the binary format to which `head` belongs; None if it is of no known one."""
    return next((name for magic, name in _NOT_TEXT if head.startswith(magic)), None)


def format_from(head: bytes) -> Format:
    """The format of a file whose name does not tell: text, unless its first bytes are of another format."""
    if PDF in head:
        return Format.PDF
    if head.startswith(ZIP):
        return Format.EPUB if b"application/epub+zip" in head else Format.DOCX
    by_magic = next((form for magic, form in _UNREADABLE if head.startswith(magic)), None)
    if by_magic is not None:
        return by_magic
    opening = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if opening.startswith((b"<!doctype html", b"<html")):
        return Format.HTML
    if opening.startswith((b"<?xml", b"<rss", b"<feed", b"<svg")):
        return Format.XML
    return text_format_from(head) or Format.TEXT


def text_format_from(head: bytes) -> Format | None:
    """The format of a file that is called text, if its first bytes are unmistakably those of another one."""
    if _CAPTIONS.match(head):
        return Format.CAPTIONS
    if _MAILBOX.match(head):
        return Format.MAILBOX
    return Format.MAIL if _is_mail(head) else None


def _is_mail(head: bytes) -> bool:
    """Whether it begins with fields as mail programs write them, and only with fields."""
    fields, blank_line, _ = head.replace(b"\r\n", b"\n").partition(b"\n\n")
    lines = fields.split(b"\n") if blank_line else fields.split(b"\n")[:-1]  # the last one may be cut off
    names = {line.partition(b":")[0].lower() for line in lines if not line.startswith((b" ", b"\t"))}
    is_all_fields = all(map(_FIELD.match, lines)) and lines[:1] != [b""]
    return is_all_fields and b"from" in names and not names.isdisjoint(_MAIL_FIELDS)
