"""Org, reStructuredText, AsciiDoc and TeX are read as Markdown: headings, code, and what a reader sees."""

from __future__ import annotations

import pytest

from embedfleet.account_codes import Code, Effect
from embedfleet.parsing.formats import Format, ParsedDocument
from support.reading import heading_at, read_as


def _read(form: Format, data: str) -> ParsedDocument:
    document = read_as(form, data.encode())
    assert document.content_type == "markdown"
    return document


def _codes(document: ParsedDocument) -> dict[Code, int]:
    return {entry.code: entry.count for entry in document.account.entries}


ORG = """#+TITLE: Pump manual
#+OPTIONS: toc:nil
# a comment
* Gate                                :north:
:PROPERTIES:
:ID: 5
:END:
Body [[http://x.org][the link]] *bold*.
# of items is no heading
** TODO Sub
#+BEGIN_SRC sh
# no heading
,* nor this
#+END_SRC
#+begin_comment
hidden
#+end_comment
: fixed # width
#+BEGIN_QUOTE
quoted
#+END_QUOTE
| a | b |
|---+---|
| 1 | 2 |
* COMMENT Draft
** hidden too
* Weir
#+INCLUDE: "other.org"
end
"""


def test_org() -> None:
    document = _read(Format.ORG, ORG)
    assert document.title == "Pump manual"
    assert document.text == (
        "title: Pump manual\n\n# Gate\n\ntags: north\n\nBody the link *bold*.\n\n## TODO Sub\n\n"
        "```sh\n# no heading\n* nor this\n```\n\n```\nfixed # width\n```\n\nquoted\n"
        "| a | b |\n|---|---|\n| 1 | 2 |\n\n# Weir\n\nend\n"
    )
    assert heading_at(document, "fixed") == ("Gate", "TODO Sub")
    assert heading_at(document, "end\n") == ("Weir",)
    assert _codes(document) == {Code.MARKUP_SETTING: 2, Code.MARKUP_COMMENT: 5, Code.OTHER_FILE: 1}


RST = """.. _top:

=====
Title
=====

:Author: Ines Moor

Intro :ref:`the gate <gate>` and ``:lit:`x``` with |mill|_ and `a link <http://x.org>`_.

.. |mill| replace:: Upper Mill

.. a comment
   # goes on

Section
-------

.. toctree::
   :maxdepth: 2

   other

.. code-block:: sh
   :linenos:

   # no heading
   ls

.. note:: Mind the gate.

   Always.

.. automodule:: foo
   :members:

   Body of it.

Example::

  # not heading
  Nor this
  --------

Sub
~~~
# of pumps, see [1]_.

====  =====
Part  Price
====  =====
bolt  3
====  =====

+---+---+
| a | b |
+===+===+
| 1 | 2 |
+---+---+

.. figure:: a.png
   :alt: The upper gate

   A caption.

.. [1] Foot note.
.. _x: http://x.org
.. include:: other.rst

Last
----

End.
"""


def test_rst() -> None:
    document = _read(Format.RST, RST)
    assert document.text == (
        "# Title\n\nAuthor: Ines Moor\n\nIntro `the gate` and ``:lit:`x``` with Upper Mill and a link.\n\n"
        "## Section\n\n```sh\n# no heading\nls\n```\n\nNote: Mind the gate.\n\nAlways.\n\nfoo\n\n"
        "Body of it.\n\nExample:\n\n```\n# not heading\nNor this\n--------\n```\n\n### Sub\n\n"
        "\\# of pumps, see [1].\n\nPart  Price\nbolt  3\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n"
        "The upper gate\n\nA caption.\n\n[1] Foot note.\n\n## Last\n\nEnd.\n"
    )
    assert heading_at(document, "End.") == ("Title", "Last")
    assert heading_at(document, "of pumps") == ("Title", "Section", "Sub")
    assert _codes(document) == {
        Code.LINK_TARGET: 2,
        Code.MARKUP_SETTING: 2,
        Code.MARKUP_COMMENT: 1,
        Code.OTHER_FILE: 1,
    }


ADOC = """= Pump manual
:toc:
:mill: Upper Mill
:author: Ines Moor

// a comment
[[gate]]
== Gate

Body <<gate,the gate>> of the {mill}, see https://x.org[the page] and link:a.html[that].

.A listing
[source,sh]
----
# no heading
== nor this
----

////
== hidden
////

NOTE: Mind it.

[WARNING]
====
Hot.
====

=== Sub

* one
** two
. first

[cols="1,2",options="header"]
|===
|a |b

|1
|2 and
more
|===

....
== literal
....

image::p.png[A pump,200]
include::other.adoc[]

Old title
---------

End.footnote:[Small.]
"""


def test_asciidoc() -> None:
    document = _read(Format.ASCIIDOC, ADOC)
    assert document.text == (
        "# Pump manual\n\nauthor: Ines Moor\n\n## Gate\n\n"
        "Body the gate of the Upper Mill, see the page and that.\n\nA listing\n\n"
        "```sh\n# no heading\n== nor this\n```\n\nNOTE: Mind it.\n\nWARNING:\n\nHot.\n\n### Sub\n\n"
        "- one\n  - two\n- first\n\n| a | b |\n|---|---|\n| 1 | 2 and more |\n\n"
        "```\n== literal\n```\n\nA pump\n\n## Old title\n\nEnd. (Small.)\n"
    )
    assert heading_at(document, "first") == ("Pump manual", "Gate", "Sub")
    assert heading_at(document, "End.") == ("Pump manual", "Old title")
    assert _codes(document) == {Code.MARKUP_SETTING: 2, Code.MARKUP_COMMENT: 2, Code.OTHER_FILE: 1}


TEX = r"""\documentclass{article}
\usepackage{x} % why
\title{Pump \\ manual}
\author{Ines Mo\'or}
\begin{document}
\maketitle
% a comment
\section{The \emph{upper} gate}\label{gate}
Body \textbf{of \emph{it}} with 5\% of $a^2_{i}$,~see \cite{k}.\footnote{Small \emph{one}.}
A caf\'e in K\"{o}ln --- ``good''. \verb|\section{x}| \{a\}
\begin{verbatim}
% code
\section{no}
\end{verbatim}
\begin{table}\caption{Sizes}
\begin{tabular}{l|l} \hline A & B \\ \hline c \& d & $x$ \\ \end{tabular}
\end{table}
\begin{equation} E = mc^2 % no
\end{equation}
\input{other}
\subsection*{Sub}
\begin{itemize}
  \item one
  \item[two] 2
\end{itemize}
\begin{comment}
\section{hidden}
\end{comment}
End \href{http://x.org}{there}.
\end{document}
"""


def test_tex() -> None:
    document = _read(Format.TEX, TEX)
    assert document.title == "Pump manual"
    assert document.text == (
        "title: Pump manual\nauthor: Ines Moór\n\n# The upper gate\n\n"
        "Body of it with 5% of $a^2_{i}$, see . (Small one.)\n"
        "A café in Köln — “good”. `\\section{x}` {a}\n\n```\n% code\n\\section{no}\n```\n\nSizes\n\n"
        "| A | B |\n|---|---|\n| c & d | $x$ |\n\n\\begin{equation} E = mc^2\n\\end{equation}\n\n"
        "## Sub\n\n- one\n- two: 2\n\nEnd there.\n"
    )
    assert heading_at(document, "two: 2") == ("The upper gate", "Sub")
    assert _codes(document) == {Code.MARKUP_COMMENT: 4, Code.MARKUP_SETTING: 1, Code.OTHER_FILE: 1}


def test_the_levels_of_tex_begin_with_the_highest_that_is_used() -> None:
    document = _read(Format.TEX, "\\chapter{A}\n\\section{B}\ntext\n\\chapter{C}\n")
    assert heading_at(document, "text") == ("A", "B")
    assert document.text.endswith("# C\n")


def test_what_is_in_another_file_is_lost() -> None:
    (entry,) = _read(Format.TEX, "a \\input{b} c").account.entries
    assert (entry.effect, entry.places) == (Effect.LOST, ("b",))


@pytest.mark.parametrize("form", [Format.ORG, Format.RST, Format.ASCIIDOC, Format.TEX])
@pytest.mark.parametrize(
    "repeated",
    [
        "\\begin{verbatim}",
        "\\section{",
        "$ \\(",
        ".. note::\n   ",
        "#+BEGIN_SRC\n",
        "----\n",
        "|===\n",
        "[[",
        "`a ",
        "x\n=",
    ],
)
def test_hostile_pages_take_linear_time(form: Format, repeated: str) -> None:
    assert read_as(form, b"text " + repeated.encode() * 2000).text.count("text") == 1
