"""The file formats that the parser knows, by file name, and the result of parsing a file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from embedfleet.account import NOTHING_SAID, Account
from embedfleet.places import NOWHERE, Places

PARSER_VERSION = 2
"""Raise it with every change that gives the same file another text: then all files are parsed again."""

ContentType = Literal["text", "markdown", "code"]


@dataclass(frozen=True, slots=True)
class ParsedDocument:
    """A file as text. Its lines end in LF; it has no NUL and no lone surrogate.

    `content_type` tells the chunker how the text is laid out. `account` says what of the file is not in the
    text. `title` is what the document calls itself, if the text does not begin with it. `places` has the
    pages and seconds of the text. `source_hash` is the hash of exactly the bytes that were parsed; None for a
    large file, which is read piece by piece.
    """

    text: str
    content_type: ContentType
    account: Account = NOTHING_SAID
    source_hash: str | None = None
    title: str | None = None
    places: Places = NOWHERE


class Format(StrEnum):
    """The way in which a file is read."""

    TEXT = "text"
    MARKDOWN = "markdown"
    CODE = "code"
    HTML = "html"
    DELIMITED = "delimited"
    JSON = "json"
    XML = "xml"
    ORG = "org"
    RST = "rst"
    ASCIIDOC = "asciidoc"
    TEX = "tex"
    CAPTIONS = "captions"
    NOTEBOOK = "notebook"
    MAIL = "mail"
    MAILBOX = "mailbox"
    RTF = "rtf"
    PDF = "pdf"
    DOCX = "docx"
    XLSX = "xlsx"
    XLS = "xls"
    PPTX = "pptx"
    OPENDOCUMENT = "opendocument"
    EPUB = "epub"
    OLD_OFFICE = "old office"
    OLD_WORD = "old word"
    OLD_POWERPOINT = "old powerpoint"
    WORKS = "works"
    PUBLISHER = "publisher"
    VISIO = "visio"
    PROJECT = "project"
    ONENOTE = "onenote"
    ACCESS = "access"
    WORDPERFECT = "wordperfect"
    PAGES = "pages"
    NUMBERS = "numbers"
    KEYNOTE = "keynote"
    XPS = "xps"
    OLD_OPENOFFICE = "old openoffice"
    HANGUL = "hangul"
    OUTLOOK = "outlook"


_SUFFIXES: dict[Format, str] = {
    Format.TEXT: "txt text log ini cfg conf toml yaml yml properties po",
    Format.MARKDOWN: "md markdown mdx qmd rmd",
    Format.CODE: (
        "py pyi pyx js mjs cjs jsx ts tsx vue svelte java kt kts scala groovy gradle c h cc cpp cxx hpp hh "
        "hxx cs fs go rs zig swift m mm rb php pl pm r jl lua hs ml mli ex exs erl hrl clj cljs lisp el scm "
        "dart nim f90 f95 asm s v vhd vhdl sv sh bash zsh fish ps1 bat cmd sql css scss less proto graphql "
        "thrift tf hcl cmake mk awk vim diff patch xsl xslt"
    ),
    Format.HTML: "html htm xhtml",
    Format.DELIMITED: "csv tsv",
    Format.JSON: "json json3 jsonl ndjson geojson",
    Format.XML: (
        "xml rss atom xsd wsdl dita ditamap docbook dbk nxml tei fb2 opml rdf owl xlf xliff tmx resx kml gpx "
        "plist"
    ),
    Format.ORG: "org",
    Format.RST: "rst rest",
    Format.ASCIIDOC: "adoc asciidoc",
    Format.TEX: "tex latex ltx",
    Format.NOTEBOOK: "ipynb",
    Format.MAIL: "eml emlx mht mhtml",
    Format.MAILBOX: "mbox",
    Format.RTF: "rtf",
    Format.CAPTIONS: "srt vtt ass ssa sbv lrc smi sami ttml dfxp srv1 srv2 srv3",
    Format.PDF: "pdf",
    Format.DOCX: "docx docm dotx dotm",
    Format.XLSX: "xlsx xlsm xltx xltm",
    Format.PPTX: "pptx pptm potx potm ppsx ppsm",
    Format.OPENDOCUMENT: "odt ott odm ods ots odp otp odg otg",
    Format.EPUB: "epub",
}
# Formats that are refused by their names. Their suffixes say what a file is that cannot be read.
_UNREADABLE_SUFFIXES: dict[Format, str] = {
    Format.OLD_OFFICE: "",
    Format.OLD_WORD: "doc dot",
    Format.XLS: "xls xlt",
    Format.OLD_POWERPOINT: "ppt pps pot",
    Format.WORKS: "wps wks wdb",
    Format.PUBLISHER: "pub",
    Format.VISIO: "vsd vss vst vsdx vsdm",
    Format.PROJECT: "mpp mpt",
    Format.ONENOTE: "one onetoc2 onepkg",
    Format.ACCESS: "mdb accdb",
    Format.WORDPERFECT: "wpd wp wp5 wp6",
    Format.PAGES: "pages",
    Format.NUMBERS: "numbers",
    Format.KEYNOTE: "key",
    Format.XPS: "xps oxps",
    Format.OLD_OPENOFFICE: "sxw sxc sxi sxd stw stc",
    Format.HANGUL: "hwp hwpx",
    Format.OUTLOOK: "msg oft",
}
UNREADABLE = frozenset(_UNREADABLE_SUFFIXES)
"""The formats that are known only so that the files can be refused by name. A walk passes over them."""

_BY_SUFFIX = {
    f".{suffix}": form
    for form, suffixes in {**_UNREADABLE_SUFFIXES, **_SUFFIXES}.items()
    for suffix in suffixes.split()
}
_BY_NAME = {
    "makefile": Format.CODE,
    "dockerfile": Format.CODE,
    "readme": Format.TEXT,
    "changelog": Format.TEXT,
    "license": Format.TEXT,
    "copying": Format.TEXT,
    "notice": Format.TEXT,
    "authors": Format.TEXT,
}


def format_of(path: str | os.PathLike[str]) -> Format | None:
    """The format that a file's name stands for; None if the name does not tell."""
    name = os.path.basename(path).lower()
    return _BY_SUFFIX.get(os.path.splitext(name)[1]) or _BY_NAME.get(name)


def suffixes_of(form: Format) -> list[str]:
    """The suffixes of the names of files of this format, without the dot, in alphabetical order."""
    return sorted(_SUFFIXES[form].split())


def is_supported(path: str | os.PathLike[str]) -> bool:
    """Whether a walk through a folder includes the file. Any file that is named explicitly may be read."""
    form = format_of(path)
    return form is not None and form not in UNREADABLE
