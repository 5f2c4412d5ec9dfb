"""The only module that calls kreuzberg: converts a document to Markdown, and its errors to ParseError."""

from __future__ import annotations

import re

from kreuzberg import ConcurrencyConfig, ExtractionConfig, KreuzbergError, extract_bytes_sync

from embedfleet.errors import ParseError, one_line

# No cache, as it would write to disk; no OCR, as none is configured; no image extraction; no post-processing
# of the text; one thread, as the parser processes already run in parallel.
_CONFIG = ExtractionConfig(
    use_cache=False,
    enable_quality_processing=False,
    output_format="markdown",
    concurrency=ConcurrencyConfig(max_threads=1),
    # Its preprocessing would drop sidebars and forms with all their content.
    html_options={"extract_metadata": False, "preprocessing": {"enabled": False}},
)
# Matches what `_tidied` treats differently. A fenced block stays unchanged. A table row loses the padding to
# the width of the widest cell, which can be hundreds of spaces in every row. Other text loses its escapes: a
# search for `a_b` would not find `a\_b`.
_FENCE_OR_REST = re.compile(
    r"^(?P<fence> *(?P<ticks>`{3,})[^\n]*\n.*?^ *(?P=ticks)[ \t]*$)"
    r"|^(?P<row> *\|[^\n]*\|$)"
    r"|\\(?P<escaped>[!-/:-@\[-`{}~])",
    re.MULTILINE | re.DOTALL,
)
_PADDING = re.compile(r" +(?= \|)|(?<=---)-+")
_ESCAPE = re.compile(r"\\([!-/:-@\[-`{}~])")  # punctuation but `|`, which would end a cell


def convert(data: bytes, mime_type: str) -> str:
    """The document as Markdown. Raises ParseError with the library's reason if it cannot be converted."""
    try:
        result = extract_bytes_sync(data, mime_type, _CONFIG)
    except KreuzbergError as exc:
        raise ParseError(_reason(exc)) from exc
    return _FENCE_OR_REST.sub(_tidied, result.content)


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
