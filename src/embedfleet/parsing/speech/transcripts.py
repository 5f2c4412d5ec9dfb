"""Transcripts in JSON, as speech recognisers and video sites write them: Whisper, YouTube, podcasts, AWS, …

A JSON file is one only if it has a list whose every item has a text and a time, where one of the known
layouts has it. Any other file is laid out as JSON is.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, BinaryIO

from embedfleet.account_codes import Code
from embedfleet.parsing.draft import BLOCK_BYTES, Draft
from embedfleet.parsing.formats import ContentType
from embedfleet.parsing.json_layout import read_json
from embedfleet.parsing.speech.cues import Cue, seconds_of
from embedfleet.parsing.speech.speech import write_speech
from embedfleet.parsing.text import whole_text
from embedfleet.visible_text import letters_in

# Every known layout has a name from each line. Looking for them in the bytes costs little, and other files
# are not decoded twice.
_LISTS = (
    *(b'"segments"', b'"transcription"', b'"events"', b'"utterances"', b'"monologues"', b'"results"'),
    *(b'"recognizedPhrases"', b'"phrases"', b'"text"'),
)
# "start", "startTime", "tStartMs"
_TIMES = (b"tart", b'"offsets"', b'"offset', b'"ts"', b'"timestamp')
_MILLISECONDS = 1000.0
_WORDS_A_CUE = 12  # about a line of captions; recognisers that list single words have no lines
_TICKS_A_SECOND = 1e7  # Azure counts in 100 ns
_DURATION = re.compile(r"PT(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?|(\d+(?:\.\d+)?)s")
_KNOWN = frozenset({"text", "title", "language", "segments", "transcription", "events", "results", "words"})
_PROSE_WORDS = 4  # a value of fewer words is a name, a state or a version

_LARGEST_BYTES = 1 << 25  # a day of speech, word by word; its values take ten times as much memory
_OTHER_TEXT_SHARE = 1.2  # a "text" with more letters than the cues is another text than what is said

Json = Mapping[str, Any]


def read_json_or_transcript(stream: BinaryIO, draft: Draft) -> ContentType:
    """Write a transcript as running speech, and any other JSON file as it is laid out."""
    decoding = Draft(draft.write)
    document = _document(stream, decoding) if _may_be_transcript(stream) else None
    cues = transcript_of(document)
    stream.seek(0)
    if cues is None:
        return read_json(stream, draft)
    draft.account.include(decoding.account.account)
    if isinstance(document, Mapping):
        _write_prose(document, draft)
    write_speech(cues, draft)
    return "text"


def _may_be_transcript(stream: BinaryIO) -> bool:
    size = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    has_list = has_time = False
    while size <= _LARGEST_BYTES and (block := stream.read(BLOCK_BYTES)):
        has_list = has_list or any(name in block for name in _LISTS)
        has_time = has_time or any(name in block for name in _TIMES)
    return has_list and has_time


def _document(stream: BinaryIO, draft: Draft) -> object:
    """The document; None if it is not JSON or nested too deeply."""
    try:
        return json.loads(whole_text(stream, draft))
    except (ValueError, RecursionError):
        return None


def transcript_of(document: object) -> list[Cue] | None:
    """Return the cues of a transcript; None if the document has none of the known layouts."""
    for layout in _LAYOUTS:
        try:
            cues = list(layout(document))
        except (KeyError, TypeError, ValueError, IndexError, AttributeError):
            continue
        if cues and not _has_other_text(document, cues):
            return cues
    return None


def _has_other_text(document: Any, cues: Sequence[Cue]) -> bool:
    text = document.get("text") if isinstance(document, Mapping) else None
    said = sum(letters_in(cue.text) for cue in cues)
    return isinstance(text, str) and letters_in(text) > said * _OTHER_TEXT_SHARE


def _segments(document: Any) -> Iterator[Cue]:
    """Whisper and its descendants, podcasts (Podcast Index), youtube-transcript-api: a list of lines."""
    items = document if isinstance(document, list) else document["segments"]
    for item in items:
        said = item["text"] if "text" in item else item["body"]
        start = item["start"] if "start" in item else item["startTime"]
        end = item.get("end", item.get("endTime"))
        if end is None:
            end = start + item["duration"]
        yield _cue(start, end, said, _speaker(item))


def _whisper_cpp(document: Any) -> Iterator[Cue]:
    for item in document["transcription"]:
        if "offsets" in item:
            start, end = (item["offsets"][name] / _MILLISECONDS for name in ("from", "to"))
        else:
            start, end = (seconds_of(item["timestamps"][name]) for name in ("from", "to"))
        yield _cue(start, end, item["text"], _speaker(item))


def _youtube(document: Any) -> Iterator[Cue]:
    for event in document["events"]:
        start, said = event["tStartMs"], "".join(one.get("utf8", "") for one in event.get("segs", ()))
        if said.strip():
            end = (start + event.get("dDurationMs", 0)) / _MILLISECONDS
            yield _cue(start / _MILLISECONDS, end, said, None)


def _chunks(document: Any) -> Iterator[Cue]:
    """Pipelines of `transformers`: {"chunks": [{"timestamp": [0.0, 1.5], "text": "…"}]}."""
    for item in document["chunks"]:
        start, end = item["timestamp"]
        yield _cue(start, start if end is None else end, item["text"], _speaker(item))


def _utterances(document: Any) -> Iterator[Cue]:
    """AssemblyAI (milliseconds) and Deepgram (seconds), if they have told the speakers apart."""
    in_results = "results" in document
    found = document["results"] if in_results else document
    for item in found["utterances"]:
        said = item["transcript"] if "transcript" in item else item["text"]
        scale = 1.0 if in_results else _MILLISECONDS
        yield _cue(item["start"] / scale, item["end"] / scale, said, _speaker(item))


def _assembly_words(document: Any) -> Iterator[Cue]:
    document["audio_duration"]  # KeyError: another layout
    for cue in _lines([(w["start"], w["end"], w["text"], _speaker(w)) for w in document["words"]]):
        yield replace(cue, start=(cue.start or 0) / _MILLISECONDS, end=(cue.end or 0) / _MILLISECONDS)


def _deepgram(document: Any) -> Iterator[Cue]:
    for channel in document["results"]["channels"]:
        words = channel["alternatives"][0]["words"]
        yield from _lines(
            [(w["start"], w["end"], w.get("punctuated_word") or w["word"], _speaker(w)) for w in words]
        )


def _amazon(document: Any) -> Iterator[Cue]:
    """AWS Transcribe: words and punctuation, which has no time."""
    words: list[tuple[float, float, str, str | None]] = []
    for item in document["results"]["items"]:
        said = item["alternatives"][0]["content"]
        if item["type"] == "punctuation" and words:
            start, end, before, speaker = words[-1]
            words[-1] = (start, end, before + said, speaker)
        else:
            words.append((float(item["start_time"]), float(item["end_time"]), said, _speaker(item)))
    yield from _lines(words)


def _google(document: Any) -> Iterator[Cue]:
    for result in document["results"]:
        best = result["alternatives"][0]
        words = best.get("words") or []
        first, last = words[0], words[-1]
        yield _cue(_duration(first["startTime"]), _duration(last["endTime"]), best["transcript"], None)


def _rev(document: Any) -> Iterator[Cue]:
    for part in document["monologues"]:
        elements = part["elements"]
        times = [(one["ts"], one["end_ts"]) for one in elements if "ts" in one]
        said = "".join(one["value"] for one in elements)
        speaker = part.get("speaker")
        yield _cue(times[0][0], times[-1][1], said, None if speaker is None else f"Speaker {speaker}")


def _azure(document: Any) -> Iterator[Cue]:
    if "phrases" in document:
        for item in document["phrases"]:
            start = item["offsetMilliseconds"] / _MILLISECONDS
            yield _cue(
                start, start + item["durationMilliseconds"] / _MILLISECONDS, item["text"], _speaker(item)
            )
        return
    for item in document["recognizedPhrases"]:
        start = item["offsetInTicks"] / _TICKS_A_SECOND
        end = start + item["durationInTicks"] / _TICKS_A_SECOND
        yield _cue(start, end, item["nBest"][0]["display"], _speaker(item))


_LAYOUTS: tuple[Callable[[Any], Iterator[Cue]], ...] = (
    *(_segments, _whisper_cpp, _youtube, _chunks, _utterances, _deepgram),
    *(_amazon, _google, _rev, _azure, _assembly_words),
)


def _cue(start: Any, end: Any, said: Any, speaker: str | None) -> Cue:
    """A cue. Raises TypeError if its parts are not numbers and a text: then the layout is another one."""
    if not isinstance(said, str) or isinstance(start, bool) or isinstance(end, bool):
        raise TypeError
    start, end = float(start), float(end)
    if not (0 <= start < float("inf") and end < float("inf")):
        raise ValueError
    return Cue(start, end, said.encode("utf-8", "replace").decode().replace("\0", ""), speaker)


def _speaker(item: Json) -> str | None:
    for name in ("speaker", "speaker_label", "speakerName", "speaker_name"):
        value = item.get(name)
        if isinstance(value, str) and value.strip():
            is_label = len(value) <= 2 or value.isdecimal()
            return f"Speaker {value}" if is_label else value.strip()
        if isinstance(value, int) and not isinstance(value, bool):
            return f"Speaker {value}"
    return None


def _lines(words: Sequence[tuple[Any, Any, str, str | None]]) -> Iterator[Cue]:
    """Cues of several words: up to the end of a line, or to another speaker."""
    line: list[tuple[Any, Any, str, str | None]] = []
    for word in words:
        if line and (len(line) == _WORDS_A_CUE or word[3] != line[0][3]):
            yield _cue(line[0][0], line[-1][1], " ".join(w[2] for w in line), line[0][3])
            line = []
        line.append(word)
    if line:
        yield _cue(line[0][0], line[-1][1], " ".join(w[2] for w in line), line[0][3])


def _duration(written: str) -> float:
    match = _DURATION.fullmatch(written)
    if match is None:
        raise ValueError
    hours, minutes, seconds, plain_seconds = (float(part or 0) for part in match.groups())
    return hours * 3600 + minutes * 60 + seconds + plain_seconds


def _write_prose(document: Json, draft: Draft) -> None:
    """Write what the file says beside the transcript, such as a summary; the title is the document's."""
    for name, value in document.items():
        if name == "title" and isinstance(value, str):
            draft.title = " ".join(value.split()) or None
        elif name in _KNOWN:
            continue
        elif isinstance(value, str) and len(value.split()) >= _PROSE_WORDS:
            draft.write(f"{name}: {_clean(value)}\n\n")
        else:
            draft.note(Code.SPEECH_DETAIL, chars=letters_in(json.dumps(value)), place=_clean(name)[:60])


def _clean(text: str) -> str:
    return text.encode("utf-8", "replace").decode().replace("\0", "")
