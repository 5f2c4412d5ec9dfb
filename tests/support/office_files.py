"""Makes Office and OpenDocument files of the XML that a test is about."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Mapping, Sequence

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


_SHEET_NAMESPACE = f"{_OOXML}/spreadsheetml/2006/main"


def excel(
    sheets: Mapping[str, str],
    *,
    states: Mapping[str, str] | None = None,
    strings: Sequence[str] = (),
    formats: Sequence[str] = (),
    more: Mapping[str, str | bytes] | None = None,
) -> bytes:
    """A workbook. `sheets`: what follows `<worksheet>` in each, by name; `formats`: number formats, of which
    a cell style with the same number, from 1, has each; `more`: more members of the archive."""
    entries = "".join(
        f'<sheet name="{name}" sheetId="{i}" r:id="s{i}" {(states or {}).get(name, "")}/>'
        for i, name in enumerate(sheets)
    )
    codes = "".join(f'<numFmt numFmtId="{200 + i}" formatCode="{code}"/>' for i, code in enumerate(formats))
    styles = "".join(f'<xf numFmtId="{200 + i}"/>' for i in range(len(formats)))
    parts = {f"s{i}": ("worksheet", f"worksheets/sheet{i}.xml") for i in range(len(sheets))}
    parts |= {"st": ("styles", "styles.xml"), "ss": ("sharedStrings", "sharedStrings.xml")}
    return zipped(
        {
            "_rels/.rels": links({"r1": ("officeDocument", "xl/workbook.xml")}),
            "xl/workbook.xml": _sheet_part("workbook", f"<sheets>{entries}</sheets>"),
            "xl/_rels/workbook.xml.rels": links(parts),
            "xl/styles.xml": _sheet_part(
                "styleSheet", f'<numFmts>{codes}</numFmts><cellXfs><xf numFmtId="0"/>{styles}</cellXfs>'
            ),
            "xl/sharedStrings.xml": _sheet_part("sst", "".join(f"<si>{text}</si>" for text in strings)),
            **{
                f"xl/worksheets/sheet{i}.xml": _sheet_part("worksheet", content)
                for i, content in enumerate(sheets.values())
            },
            **(more or {}),
        }
    )


def _sheet_part(root: str, content: str) -> str:
    return f'<{root} xmlns="{_SHEET_NAMESPACE}" xmlns:r="{_KINDS}">{content}</{root}>'


def sheet_comments(content: str) -> str:
    return _sheet_part("comments", content)


def rows(*cells: Sequence[str | float], hidden: Sequence[int] = ()) -> str:
    """The rows of a sheet: texts and numbers; a text that begins with `<` is the cell itself."""
    return (
        "<sheetData>"
        + "".join(
            f'<row r="{r}" hidden="{int(r in hidden)}">{"".join(_cells(r, row))}</row>'
            for r, row in enumerate(cells, start=1)
            if row
        )
        + "</sheetData>"
    )


def _cells(number: int, row: Sequence[str | float]) -> Iterator[str]:
    for column, value in enumerate(row):
        place = f'r="{chr(ord("A") + column)}{number}"'
        if isinstance(value, str) and value.startswith("<"):
            yield value.replace("<c", f"<c {place}", 1)
        elif isinstance(value, str):
            yield f'<c {place} t="inlineStr"><is><t>{value}</t></is></c>' if value else ""
        else:
            yield f"<c {place}><v>{value}</v></c>"


def powerpoint(
    slides: Sequence[str],
    *,
    notes: Mapping[int, str] | None = None,
    more: Mapping[str, str] | None = None,
    attributes: Mapping[int, str] | None = None,
    related: Mapping[int, Mapping[str, tuple[str, str]]] | None = None,
) -> bytes:
    """A presentation: of each slide, by its number from 1, the shapes, notes, attributes and links."""
    numbers = range(1, len(slides) + 1)
    entries = "".join(f'<p:sldId id="{255 + i}" r:id="r{i}"/>' for i in numbers)
    members: dict[str, str | bytes] = {
        "_rels/.rels": links({"r1": ("officeDocument", "ppt/presentation.xml")}),
        "ppt/presentation.xml": xml("p:presentation", f"<p:sldIdLst>{entries}</p:sldIdLst>"),
        "ppt/_rels/presentation.xml.rels": links(
            {f"r{i}": ("slide", f"slides/slide{i}.xml") for i in numbers}
        ),
    }
    for i, shapes in zip(numbers, slides, strict=True):
        own = dict((related or {}).get(i, {}))
        if i in (notes or {}):
            own["n"] = ("notesSlide", f"../notesSlides/n{i}.xml")
            members[f"ppt/notesSlides/n{i}.xml"] = xml("p:notes", tree(shape((notes or {})[i], "body")))
        members[f"ppt/slides/slide{i}.xml"] = xml("p:sld", tree(shapes), (attributes or {}).get(i, ""))
        members[f"ppt/slides/_rels/slide{i}.xml.rels"] = links(own)
    return zipped({**members, **(more or {})})


def tree(shapes: str) -> str:
    return f"<p:cSld><p:spTree>{shapes}</p:spTree></p:cSld>"


def shape(text: str, placeholder: str | None = None) -> str:
    """A shape of a slide; each line of the text is a paragraph, and text that begins with `<` is XML."""
    holder = "" if placeholder is None else f'<p:ph type="{placeholder}"/>' if placeholder else "<p:ph/>"
    lines = "".join(
        line if line.startswith("<") else f"<a:p><a:r><a:t>{line}</a:t></a:r></a:p>"
        for line in text.split("\n")
    )
    return f"<p:sp><p:nvSpPr><p:nvPr>{holder}</p:nvPr></p:nvSpPr><p:txBody>{lines}</p:txBody></p:sp>"


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
