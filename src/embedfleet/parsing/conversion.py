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
    html_options={"extract_metadata": False},
)
# A fenced block is kept as it stands; a table row loses the padding that aligns it with the widest cell,
# which can be hundreds of spaces in every row.
_FENCE_OR_ROW = re.compile(r"^ *(`{3,})[^\n]*\n.*?^ *\1[ \t]*$|^ *\|[^\n]*\|$", re.MULTILINE | re.DOTALL)
_PADDING = re.compile(r" {2,}(?=\|)|(?<=--)-{2,}")


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
    markdown = _FENCE_OR_ROW.sub(_without_padding, result.content)
    return Converted(markdown, one_line(title) if isinstance(title, str) else None)


def one_line(title: str) -> str | None:
    """A title without line breaks; None if nothing is left."""
    return " ".join(title.split()) or None


def _without_padding(match: re.Match[str]) -> str:
    return match.group() if match.group(1) else _PADDING.sub("", match.group())


def _reason(exc: KreuzbergError) -> str:
    if "password" in str(exc).lower() or "encrypted" in str(exc).lower():
        return "is encrypted: remove the password and try again"
    return f"is broken ({one_line(exc.message)}): repair it or leave it out"
