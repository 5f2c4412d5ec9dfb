"""The reader of caption files. The first lines say which layout a file has, whatever its suffix is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import BinaryIO

from embedfleet.parsing.draft import Draft
from embedfleet.parsing.formats import ContentType
from embedfleet.parsing.speech.arrow_captions import parse_arrow_captions
from embedfleet.parsing.speech.cues import Cue
from embedfleet.parsing.speech.line_captions import (
    looks_like_frames,
    looks_like_lyrics,
    looks_like_subviewer,
    parse_frames,
    parse_lyrics,
    parse_subviewer,
)
from embedfleet.parsing.speech.speech import write_speech
from embedfleet.parsing.speech.substation import looks_like_substation, parse_substation
from embedfleet.parsing.speech.timed_markup import looks_like_markup, parse_markup
from embedfleet.parsing.text import whole_text

Parser = Callable[[str, Draft], Iterable[Cue]]

_PARSERS: tuple[tuple[Callable[[str], bool], Parser], ...] = (
    (looks_like_substation, parse_substation),
    (looks_like_markup, parse_markup),
    (looks_like_subviewer, parse_subviewer),
    (looks_like_lyrics, parse_lyrics),
    (looks_like_frames, parse_frames),
)


def read_captions(stream: BinaryIO, draft: Draft) -> ContentType:
    """Write what is said as running speech. Holds the file's text and its cues in memory."""
    text = whole_text(stream, draft)
    parser = next((parser for matches, parser in _PARSERS if matches(text)), parse_arrow_captions)
    write_speech(parser(text, draft), draft)
    return "text"
