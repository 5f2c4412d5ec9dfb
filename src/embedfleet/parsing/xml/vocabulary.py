"""What the names of elements mean, in the vocabularies that people write in: DocBook, JATS, TEI, DITA,
FictionBook, feeds, and the HTML in all of these."""

from __future__ import annotations

from enum import Enum


class Style(Enum):
    """How a document is laid out."""

    PROSE = "prose"
    """Written by people: the text alone, with headings."""
    FEED = "feed"
    """News: headings, text, and short values with their names."""
    DATA = "data"
    """Records: values with their names, and attributes."""


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_FEED_ROOTS = frozenset({"rss", "feed", "rdf"})
_PROSE_ROOTS = _set(
    "book article chapter part preface appendix set section sect1 sect2 refentry reference glossary "
    "tei teicorpus dita topic concept task troubleshooting fictionbook html svg nitf document doc "
    "book-part collection sec simplesect help"
)


def style_of(root: str) -> Style:
    """Return how a document with this root element is laid out."""
    name = root.lower()
    if name in _FEED_ROOTS:
        return Style.FEED
    return Style.PROSE if name in _PROSE_ROOTS else Style.DATA


HEADINGS = _set("title head heading article-title bridgehead refname")
# Elements whose title names a part of the text, and no section.
NO_SECTIONS = _set(
    "table informaltable figure fig example informalexample equation note tip warning caution important "
    "sidebar formalpara procedure step itemizedlist orderedlist variablelist list image textinput author "
    "source biblioentry bibliomixed ref citation mixed-citation element-citation biblstruct person "
    "boxed-text "
    "table-wrap table-wrap-foot svg g text a span td th listitem li "
    "citetitle simplelist qandaentry blockquote epigraph media group"
)
# Their title is that of the element around them.
WRAPPERS = _set(
    "info bookinfo articleinfo chapterinfo sectioninfo refmeta refnamediv front article-meta title-group "
    "teiheader filedesc titlestmt front-stub title-info description-info titlepage doctitle prolog metadata "
    "body bodymatter frontmatter"
)
BLOCKS = _set(
    "p para simpara div li listitem ul ol dl dt dd table tr blockquote pre section article h1 h2 h3 h4 h5 h6 "
    "figure figcaption caption title subtitle head chapter sec item entry channel formalpara note "
    "tip warning "
    "caution important footer header aside main form fieldset details summary hr "
    "programlisting screen literallayout"
)
INLINES = _set(
    "a abbr acronym b bdi bdo big cite code data del dfn em font i ins kbd label mark q s samp small span "
    "strike strong sub sup time tt u var wbr emphasis literal command filename option replaceable varname "
    "function parameter constant classname methodname type userinput computeroutput application guilabel "
    "guimenu guimenuitem keycap link ulink xref quote firstterm foreignphrase citetitle trademark phrase "
    "superscript subscript inlineequation envar systemitem productname email uri italic bold monospace "
    "underline sc ext-link inline-formula hi ref persname placename orgname rs num ph codeph cmdname tspan "
    "anchor footnote citation date-in-citation wintitle uicontrol filepath msgph"
)
VERBATIM = _set("programlisting screen literallayout synopsis pre codeblock preformat eg egxml")
TABLES = frozenset({"table", "informaltable"})
ROWS = frozenset({"tr", "row"})
TABLE_PARTS = _set("thead tbody tfoot tgroup colgroup col colspec spanspec")
CELLS = frozenset({"td", "th", "entry", "cell"})
LIST_ITEMS = frozenset({"li", "listitem", "list-item"})
IN_LINES = ROWS | TABLE_PARTS | LIST_ITEMS
"""Between two of these is the end of a line, and no blank line."""
RAISED = frozenset({"sup", "superscript"})
"""10 and a raised 6 are not 106."""
# Of no use to a reader of the page.
UNSEEN = _set("script style template indexterm remark binary")
BREAKS = frozenset({"br", "lb", "hr", "sbr"})
VOID = _set("br hr img input meta wbr col area")
"""Elements of HTML that nothing closes."""
PROSE_NAMES = _set(
    "p para text body content description title subtitle summary abstract note comment paragraph line "
    "message value string encoded heading caption desc documentation"
)
"""A value of such an element says itself what it is, as it is a text."""
UNNAMED = PROSE_NAMES | INLINES | VERBATIM
PROSE_ATTRIBUTES = _set("alt title label desc description summary alttext term caption")
TECHNICAL_ATTRIBUTES = _set("class style role transform d points id href src viewbox")
