"""Pages of many kinds for the benchmark of retrieval, and questions whose answer is one page.

The pages come from Debian packages, from the standard library of Python, and from
`retrieval_transcripts.json` (written for this benchmark, as running speech). Of each source an even sample is
taken, in the order of the paths, so a run on the same versions takes the same pages.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import subprocess
import sysconfig
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from embedfleet.chunking.atoms import find_atoms
from embedfleet.errors import ParseError
from embedfleet.parsing.draft import Draft
from embedfleet.parsing.extract import extract
from embedfleet.parsing.formats import format_of
from embedfleet.queue_schemas import ChunkMethod

TRANSCRIPTS = Path(__file__).with_name("retrieval_transcripts.json")

_SMALLEST_FILE, _LARGEST_FILE = 2_500, 200_000
"""In bytes: smaller pages are one chunk, and a few larger ones would be most of the text."""

_MOST_CHARS = 10_000
"""Of each page, so that no page has too large a part of the chunks."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where pages come from: a package, the pattern of their paths, their kind, and how many to take."""

    package: str
    pattern: str
    kind: str
    count: int = 10


SOURCES = (
    Source("git-doc", "**/git-*.html", "manual"),
    Source("postgresql-doc-15", "**/html/*.html", "manual", 16),
    Source("python-django-doc", "**/html/[a-z]*/**/*.html", "manual", 18),
    Source("sqlite3-doc", "**/*.html", "manual", 12),
    Source("zsh-doc", "**/*.html", "manual"),
    Source("fish-common", "**/cmds/*.html", "manual", 8),
    Source("gimp-help-en", "**/en/*.html", "manual", 16),
    Source("exim4-doc-html", "**/*.html", "manual", 8),
    Source("anarchism", "**/*.html", "prose", 24),
    Source("debian-faq", "**/*.html", "prose", 8),
    Source("developers-reference", "**/*.html", "prose", 6),
    Source("debian-policy", "**/*.html", "prose", 10),
    Source("debian-reference-en", "**/*.en.html", "prose", 6),
    Source("nodejs-doc", "**/*.md.gz", "markdown", 14),
    Source("docker-doc", "**/*.md*", "markdown", 20),
    Source("borgbackup-doc", "**/_sources/**/*.rst.txt*", "text", 10),
    Source("python-flask-doc", "**/_sources/**/*.rst.txt*", "text", 12),
    Source("python-aiohttp-doc", "**/_sources/**/*.rst.txt*", "text", 8),
    Source("lighttpd-doc", "**/*.txt*", "text", 10),
    Source("ansible-core", "**/ansible/modules/*.py", "code", 14),
    Source("", "*.py", "code", 24),
)


@dataclass(frozen=True, slots=True)
class Page:
    """A page as a reader of files makes it. `name`: its package and the end of its path."""

    name: str
    kind: str
    text: str
    content_type: str
    title: str | None


@dataclass(frozen=True, slots=True)
class Question:
    """A question, the names of the pages that answer it, and how it was made."""

    text: str
    answers: tuple[str, ...]
    made_from: str


def read_pages(folder: Path) -> list[Page]:
    """Return the sample of the packages that are unpacked in `folder`, one directory for each package."""
    spoken = json.loads(TRANSCRIPTS.read_text(encoding="utf-8"))
    transcripts = [Page(f"transcripts/{name}", "speech", text, "text", None) for name, text in spoken.items()]
    return [*transcripts, *(page for source in SOURCES for page in _sample(source, folder))]


def fetch(folder: Path) -> None:
    """Download and unpack the packages that are not in `folder` yet."""
    folder.mkdir(parents=True, exist_ok=True)
    for package in sorted({source.package for source in SOURCES if source.package}):
        if not (folder / package).exists():
            subprocess.run(["apt-get", "download", package], cwd=folder, check=True, capture_output=True)
            (archive,) = folder.glob(f"{package}_*.deb")
            subprocess.run(["dpkg", "-x", archive, folder / package], check=True)
            archive.unlink()


def _sample(source: Source, folder: Path) -> Iterator[Page]:
    root = folder / source.package if source.package else Path(sysconfig.get_paths()["stdlib"])
    paths = sorted(path for path in root.glob(source.pattern) if path.is_file() and not path.is_symlink())
    taken = 0
    # Every n-th path, then the ones after those, until enough pages are neither too short nor too long.
    step = max(1, len(paths) // source.count)
    for path in (path for first in range(step) for path in paths[first::step]):
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        if not _SMALLEST_FILE <= len(data) <= _LARGEST_FILE:
            continue
        page = _read(data, path.name.removesuffix(".gz"), source)
        if page is not None:
            yield page
            taken += 1
            if taken == source.count:
                return


def _read(data: bytes, file_name: str, source: Source) -> Page | None:
    """The page as the reader of its format makes it; None if the file has no text."""
    pieces: list[str] = []
    draft = Draft(pieces.append)
    try:
        content_type = extract(io.BytesIO(data), format_of(file_name), draft)
    except ParseError:
        return None
    draft.finish()
    text = "".join(pieces)[:_MOST_CHARS]
    name = f"{source.package or 'python'}/{file_name}"
    return Page(name, source.kind, text, content_type, draft.title)


def made_questions(pages: Sequence[Page], most: int) -> list[Question]:
    """Return questions made from the pages: titles of sections, and first sentences of others.

    A title or sentence that is on several pages is left out. At most about `most` of each kind.
    """
    sections = {page.name: _sections(page) for page in pages}
    said = Counter(text for found in sections.values() for text in {t for pair in found for t in pair})
    titles: list[Question] = []
    sentences: list[Question] = []
    for page in pages:
        good = [pair for pair in sections[page.name] if all(said[text] == 1 for text in pair if text)]
        good.sort(key=lambda pair: hashlib.sha256("".join(pair).encode()).digest())
        of_title = next((title for title, _ in good if len(title.split()) >= 3), None)
        of_text = next((text for title, text in good if text and title != of_title), None)
        if of_title is not None:
            titles.append(Question(of_title, (page.name,), "title"))
        if of_text is not None:
            sentences.append(Question(of_text, (page.name,), "sentence"))
    return [*_even(titles, most), *_even(sentences, most)]


def _even(questions: list[Question], most: int) -> list[Question]:
    step = -(-len(questions) // most)
    return questions[::step] if step else questions


_MARKUP = re.compile(r"[`*_#\\]|<[^>]*>")


def _sections(page: Page) -> list[tuple[str, str]]:
    """(title, first sentence) of the sections of a page, each of them "" if it is not fit for a question."""
    found: list[tuple[str, str]] = []
    for run in find_atoms([page.text], content_type=page.content_type, method=ChunkMethod.SENTENCES):
        spans = [(int(start), int(end)) for start, end in zip(run.starts, run.ends, strict=True)]
        headings = [(offset, above.headings[-1] if above.headings else "") for offset, above in run.above]
        for offset, title in headings:
            later = [run.text[start:end] for start, end in spans if start > offset]
            found.append((_fit(title, 12, 120), _fit(later[0] if later else "", 50, 240)))
        if page.kind == "text":  # a sentence in the middle of the page stands for a section
            middle = [_fit(run.text[start:end], 50, 240) for start, end in spans]
            found += [("", text) for text in middle if text.endswith(".")]
    return found


def _fit(text: str, shortest: int, longest: int) -> str:
    plain = " ".join(_MARKUP.sub("", text).split())
    return plain if shortest <= len(plain) <= longest and not re.search(r"[|{}=;]|--", plain) else ""


def written_questions(written: Mapping[str, str], pages: Sequence[Page]) -> list[Question]:
    """Return the questions written by hand whose page is in the sample."""
    names = {page.name for page in pages}
    return [Question(text, (name,), "written") for text, name in written.items() if name in names]
