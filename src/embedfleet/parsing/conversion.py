"""The one place that calls kreuzberg: a document's bytes to Markdown, its errors to ours."""

from __future__ import annotations

import re
from dataclasses import dataclass

from kreuzberg import ConcurrencyConfig, ExtractionConfig, KreuzbergError, extract_bytes_sync

from embedfleet.errors import ParseError

# No cache (it would write to disk), no OCR (none is configured), no image extraction, no post-processing
# of the text, one thread: the pool of parser processes is what runs in parallel.
_CONFIG = ExtractionConfig(
    use_cache=False,
    enable_quality_processing=False,
    output_format="markdown",
    concurrency=ConcurrencyConfig(max_threads=1),
    # Its own idea of what is no body text drops sidebars and forms with all they hold.
    html_options={"extract_metadata": False, "preprocessing": {"enabled": False}},
)
# A fenced block is kept as it stands. A table row loses the padding that aligns it with the widest cell,
# which can be hundreds of spaces in every row; the text loses its escapes, `a\_b` is no word to search for.
_FENCE_OR_REST = re.compile(
    r"^(?P<fence> *(?P<ticks>`{3,})[^\n]*\n.*?^ *(?P=ticks)[ \t]*$)"
    r"|^(?P<row> *\|[^\n]*\|$)"
    r"|\\(?P<escaped>[!-/:-@\[-`{}~])",
    re.MULTILINE | re.DOTALL,
)
_PADDING = re.compile(r" +(?= \|)|(?<=---)-+")
_ESCAPE = re.compile(r"\\([!-/:-@\[-`{}~])")  # punctuation but `|`, which would end a cell


@dataclass(frozen=True, slots=True)
class Converted:
    """A document as Markdown, and its title if it has one."""

    markdown: str
    title: str | None


def convert(data: bytes, mime_type: str) -> Converted:
    """Raises ParseError with what the library says is wrong with the document."""
    try:
        result = extract_bytes_sync(data, mime_type, _CONFIG)
    except KreuzbergError as exc:
        raise ParseError(_reason(exc)) from exc
    title = result.metadata.get("title")
    markdown = _FENCE_OR_REST.sub(_tidied, result.content)
    return Converted(markdown, one_line(title) if isinstance(title, str) else None)


def one_line(title: str) -> str | None:
    """A title without line breaks; None if nothing is left."""
    return " ".join(title.split()) or None


def _tidied(match: re.Match[str]) -> str:
    if match["fence"] is not None:
        return match["fence"]
    if match["row"] is not None:
        return _ESCAPE.sub(r"\1", _PADDING.sub("", match["row"]))
    return match["escaped"]


def _reason(exc: KreuzbergError) -> str:
    if "password" in exc.message.lower() or "encrypted" in exc.message.lower():
        return "is encrypted: remove the password and try again"
    cause = exc.message.rsplit(": ", maxsplit=1)[-1]  # the library repeats itself before the last colon
    return f"is broken ({one_line(cause)}): repair it or leave it out"
