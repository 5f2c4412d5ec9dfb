"""Makes the files that parsing is tested with: documents, hostile files, pages of manual generators."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from html import escape

_WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
_RELATIONSHIPS = "http://schemas.openxmlformats.org/package/2006/relationships"
_OFFICE_DOCUMENT = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument"
_DOCUMENT_TYPE = "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"


def archive(members: Mapping[str, bytes]) -> bytes:
    """A ZIP file."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return packed.getvalue()


def docx(paragraphs: Sequence[str], *, doctype: str = "") -> bytes:
    """A Word document; the first paragraph is a heading. `doctype` goes before its root element."""
    style = '<w:pPr><w:pStyle w:val="Heading1"/></w:pPr>'
    body = "".join(
        f'<w:p>{style if i == 0 else ""}<w:r><w:t xml:space="preserve">{text}</w:t></w:r></w:p>'
        for i, text in enumerate(paragraphs)
    )
    return docx_of(f'{doctype}<w:document xmlns:w="{_WORD}"><w:body>{body}</w:body></w:document>')


def docx_of(document_xml: str) -> bytes:
    """A Word document with this main part."""
    return archive(
        {
            "[Content_Types].xml": (
                '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
                '<Default Extension="rels" '
                'ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
                '<Default Extension="xml" ContentType="application/xml"/>'
                f'<Override PartName="/word/document.xml" ContentType="{_DOCUMENT_TYPE}"/></Types>'
            ).encode(),
            "_rels/.rels": (
                f'<Relationships xmlns="{_RELATIONSHIPS}"><Relationship Id="r1" Type="{_OFFICE_DOCUMENT}" '
                'Target="word/document.xml"/></Relationships>'
            ).encode(),
            "word/document.xml": ('<?xml version="1.0" encoding="UTF-8"?>' + document_xml).encode(),
        }
    )


def epub(chapters: Mapping[str, str], *, extra: Mapping[str, bytes] | None = None) -> bytes:
    """A book with a chapter of one paragraph for each title; `extra` members are added as they are."""
    names = [f"c{i}.xhtml" for i in range(len(chapters))]
    items = "".join(f'<item id="{name}" href="{name}" media-type="application/xhtml+xml"/>' for name in names)
    spine = "".join(f'<itemref idref="{name}"/>' for name in names)
    pages = {
        f"OEBPS/{name}": (
            f'<html xmlns="http://www.w3.org/1999/xhtml"><head><title>{escape(title)}</title></head>'
            f"<body><h1>{escape(title)}</h1><p>{escape(text)}</p></body></html>"
        ).encode()
        for name, (title, text) in zip(names, chapters.items(), strict=True)
    }
    return archive(
        {
            "mimetype": b"application/epub+zip",
            "META-INF/container.xml": (
                b'<container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container">'
                b'<rootfiles><rootfile full-path="OEBPS/content.opf" '
                b'media-type="application/oebps-package+xml"/></rootfiles></container>'
            ),
            "OEBPS/content.opf": (
                '<package xmlns="http://www.idpf.org/2007/opf" version="3.0" unique-identifier="id">'
                '<metadata xmlns:dc="http://purl.org/dc/elements/1.1/">'
                '<dc:identifier id="id">x</dc:identifier>'
                "<dc:title>A Small Book</dc:title><dc:language>en</dc:language></metadata>"
                f"<manifest>{items}</manifest><spine>{spine}</spine></package>"
            ).encode(),
            **pages,
            **(extra or {}),
        }
    )


def pdf(pages: Sequence[str], *, encrypted: bool = False) -> bytes:
    """A PDF with one line of text on each page; `encrypted` asks for a password nobody has."""
    font, first = 3, 4
    kids = " ".join(f"{first + 2 * i} 0 R" for i in range(len(pages)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for i, text in enumerate(pages):
        drawing = f"BT /F1 18 Tf 72 500 Td ({text}) Tj ET".encode("latin-1")
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {first + 2 * i + 1} 0 R "
            f"/Resources << /Font << /F1 {font} 0 R >> >> >>".encode()
        )
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(drawing), drawing))
    lock = "/ID [<00><00>]" if encrypted else ""
    if encrypted:
        digits = "5a" * 32
        objects.append(f"<< /Filter /Standard /V 1 /R 2 /P -4 /O <{digits}> /U <{digits}> >>".encode())
        lock += f" /Encrypt {len(objects)} 0 R"
    return _pdf_file(objects, lock)


def _pdf_file(objects: Sequence[bytes], trailer: str) -> bytes:
    out = io.BytesIO()
    out.write(b"%PDF-1.4\n")
    offsets = []
    for number, content in enumerate(objects, start=1):
        offsets.append(out.tell())
        out.write(b"%d 0 obj\n%s\nendobj\n" % (number, content))
    table = out.tell()
    out.write(b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1))
    for offset in offsets:
        out.write(b"%010d 00000 n \n" % offset)
    out.write(f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R {trailer} >>\n".encode())
    out.write(b"startxref\n%d\n%%%%EOF\n" % table)
    return out.getvalue()
