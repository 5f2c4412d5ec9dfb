"""Makes Office and OpenDocument files of the XML that a test is about."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping

_OOXML = "http://schemas.openxmlformats.org"
_RELATIONSHIPS = f"{_OOXML}/package/2006/relationships"
_KINDS = f"{_OOXML}/officeDocument/2006/relationships"
_NAMESPACES = " ".join(
    f'xmlns:{prefix}="{uri}"'
    for prefix, uri in {
        "w": f"{_OOXML}/wordprocessingml/2006/main",
        "r": _KINDS,
        "m": f"{_OOXML}/officeDocument/2006/math",
        "mc": f"{_OOXML}/markup-compatibility/2006",
        "wp": f"{_OOXML}/drawingml/2006/wordprocessingDrawing",
        "a": f"{_OOXML}/drawingml/2006/main",
        "pic": f"{_OOXML}/drawingml/2006/picture",
        "c": f"{_OOXML}/drawingml/2006/chart",
        "dgm": f"{_OOXML}/drawingml/2006/diagram",
        "p": f"{_OOXML}/presentationml/2006/main",
        "wps": "http://schemas.microsoft.com/office/word/2010/wordprocessingShape",
        "v": "urn:schemas-microsoft-com:vml",
        "o": "urn:schemas-microsoft-com:office:office",
    }.items()
)


def zipped(members: Mapping[str, str | bytes]) -> bytes:
    """A ZIP file."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return packed.getvalue()


def xml(root: str, content: str, attributes: str = "") -> str:
    """A part with the namespaces of Office."""
    return f'<?xml version="1.0" encoding="UTF-8"?><{root} {_NAMESPACES} {attributes}>{content}</{root}>'


def links(targets: Mapping[str, tuple[str, str]]) -> str:
    """A part with relationships: of each id the kind and the target."""
    return (
        f'<Relationships xmlns="{_RELATIONSHIPS}">'
        + "".join(
            f'<Relationship Id="{name}" Type="{_KINDS}/{kind}" Target="{target}"/>'
            for name, (kind, target) in targets.items()
        )
        + "</Relationships>"
    )


def word(
    body: str, *, main: str = "word/document.xml", parts: Mapping[str, str] | None = None, title: str = ""
) -> bytes:
    """A Word document. `parts`: the content of more parts by their kinds, such as "footnotes"."""
    folder, name = main.rsplit("/", 1)
    contents = {kind: xml(f"w:{kind}", content) for kind, content in (parts or {}).items()}
    members = {
        "_rels/.rels": links(
            {"r1": ("officeDocument", main), "r2": ("core-properties", "docProps/core.xml")}
        ),
        main: xml("w:document", f"<w:body>{body}</w:body>"),
        f"{folder}/_rels/{name}.rels": links({f"p-{kind}": (kind, f"{kind}.xml") for kind in contents}),
        "docProps/core.xml": core_properties(title),
        **{f"{folder}/{kind}.xml": content for kind, content in contents.items()},
    }
    return zipped(members)


def core_properties(title: str) -> str:
    return (
        '<p:coreProperties xmlns:p="urn:x" xmlns:dc="http://purl.org/dc/elements/1.1/">'
        f"<dc:title>{title}</dc:title></p:coreProperties>"
    )


def run(text: str, properties: str = "") -> str:
    """A run of a Word document."""
    own = f"<w:rPr>{properties}</w:rPr>" if properties else ""
    return f'<w:r>{own}<w:t xml:space="preserve">{text}</w:t></w:r>'


def paragraph(content: str, properties: str = "") -> str:
    """A paragraph of a Word document, of runs."""
    return f"<w:p>{f'<w:pPr>{properties}</w:pPr>' if properties else ''}{content}</w:p>"


def styled(text: str, style: str) -> str:
    return paragraph(run(text), f'<w:pStyle w:val="{style}"/>')


def table(*rows: str) -> str:
    return f"<w:tbl>{''.join(f'<w:tr>{row}</w:tr>' for row in rows)}</w:tbl>"


def cell(text: str, properties: str = "") -> str:
    own = f"<w:tcPr>{properties}</w:tcPr>" if properties else ""
    return f"<w:tc>{own}{paragraph(run(text))}</w:tc>"
