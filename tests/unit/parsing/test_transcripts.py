"""Transcripts in JSON become speech with their seconds; any other JSON file stays what it is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from embedfleet.account_codes import Code
from embedfleet.parsing.formats import Format, ParsedDocument
from embedfleet.parsing.json_layout import lay_out
from support.reading import read_as


def read(document: Any) -> ParsedDocument:
    return read_as(Format.JSON, json.dumps(document).encode())


def spoken(start: float, end: float, said: str) -> dict[str, Any]:
    """A word as AWS writes it."""
    times = {"start_time": str(start), "end_time": str(end)}
    return times | {"type": "pronunciation", "alternatives": [{"content": said}]}


def word(start: float, end: float, **more: Any) -> dict[str, Any]:
    return {"start": start, "end": end} | more


WHISPER = [
    {"id": 0, "start": 1.0, "end": 2.5, "text": " The mill"},
    {"start": 3.0, "end": 4.0, "text": " ran."},
]
LAYOUTS: dict[str, Any] = {
    "whisper": {"text": " The mill ran.", "segments": WHISPER, "language": "en"},
    "whisper.cpp": {
        "params": {"model": "base"},
        "transcription": [
            {"offsets": {"from": 1000, "to": 2500}, "text": " The mill"},
            {"timestamps": {"from": "00:00:03,000", "to": "00:00:04,000"}, "text": " ran."},
        ],
    },
    "youtube json3": {
        "wireMagic": "pb3",
        "events": [
            {"tStartMs": 0, "dDurationMs": 9000, "id": 1},
            {"tStartMs": 1000, "dDurationMs": 1500, "segs": [{"utf8": "The"}, {"utf8": " mill"}]},
            {"tStartMs": 2500, "aAppend": 1, "segs": [{"utf8": "\n"}]},
            {"tStartMs": 3000, "dDurationMs": 1000, "segs": [{"utf8": "ran."}]},
        ],
    },
    "youtube-transcript-api": [
        {"text": "The mill", "start": 1.0, "duration": 1.5},
        {"text": "ran.", "start": 3.0, "duration": 1.0},
    ],
    "podcast": {
        "version": "1.0.0",
        "segments": [
            {"startTime": 1, "endTime": 2.5, "body": "The mill"},
            {"startTime": 3, "endTime": 4, "body": "ran."},
        ],
    },
    "transformers": {
        "text": "The mill ran.",
        "chunks": [{"timestamp": [1.0, 2.5], "text": "The mill"}, {"timestamp": [3.0, None], "text": "ran."}],
    },
    "assembly": {
        "id": "x",
        "audio_duration": 4,
        "text": "The mill ran.",
        "words": [word(1000, 2000, text="The"), word(2000, 2500, text="mill"), word(3000, 4000, text="ran.")],
    },
    "deepgram": {
        "metadata": {},
        "results": {
            "channels": [
                {
                    "alternatives": [
                        {
                            "transcript": "",
                            "words": [
                                word(1, 2, word="the", punctuated_word="The"),
                                word(2, 2.5, word="mill"),
                                word(3, 4, word="ran."),
                            ],
                        }
                    ]
                }
            ]
        },
    },
    "amazon": {
        "jobName": "x",
        "results": {
            "transcripts": [{"transcript": "The mill ran."}],
            "items": [
                spoken(1.0, 2.0, "The"),
                spoken(2.0, 2.5, "mill"),
                spoken(3.0, 4.0, "ran"),
                {"type": "punctuation", "alternatives": [{"content": "."}]},
            ],
        },
    },
    "google": {
        "results": [
            {
                "alternatives": [
                    {
                        "transcript": "The mill ran.",
                        "words": [{"startTime": "1s", "endTime": "2.5s", "word": "The"}],
                    }
                ]
            }
        ]
    },
    "azure": {
        "recognizedPhrases": [
            {"offsetInTicks": 10**7, "durationInTicks": 10**7, "nBest": [{"display": "The mill ran."}]}
        ]
    },
    "azure fast": {
        "phrases": [{"offsetMilliseconds": 1000, "durationMilliseconds": 500, "text": "The mill ran."}]
    },
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_transcript_is_speech(layout: str) -> None:
    document = read(LAYOUTS[layout])
    assert document.text == "The mill ran.\n"
    assert document.content_type == "text"
    assert document.places.cues[0][1] == 1.0
    assert document.account.lost == ()


def test_speakers_of_a_transcript_begin_paragraphs() -> None:
    utterances = [
        word(1000, 2000, text="Is it shut?", speaker="A"),
        word(2100, 3000, text="It is.", speaker="B"),
    ]
    document = read({"text": "Is it shut? It is.", "utterances": utterances})
    assert document.text == "Speaker A: Is it shut?\n\nSpeaker B: It is.\n"
    monologue = {"speaker": 0, "elements": [{"value": "It", "ts": 1.0, "end_ts": 2.0}, {"value": " is."}]}
    assert read({"monologues": [monologue]}).text == "Speaker 0: It is.\n"


def test_prose_beside_a_transcript_stays_and_details_are_said() -> None:
    document = read(
        {"title": "The flood", "summary": "How the lower mill stopped.", "model": "base", "segments": WHISPER}
    )
    assert document.text == "summary: How the lower mill stopped.\n\nThe mill ran.\n"
    assert document.title == "The flood"
    assert [(entry.code, entry.places) for entry in document.account.entries] == [
        (Code.SPEECH_DETAIL, ("model",))
    ]


@pytest.mark.parametrize(
    "document",
    [
        {"segments": [{"text": "a road", "start": "Basel", "end": "Bern"}]},
        {"segments": [{"text": "a road", "length": 3}], "start": 1},
        [{"text": "an event", "start": 5}],
        {"text": "A whole other text that is not what is said.", "segments": [word(0, 1, text="short")]},
        {"events": [{"name": "start", "text": "x"}], "start": 1},
        {"results": [], "start": 1},
    ],
)
def test_other_files_are_laid_out_as_json(document: Any) -> None:
    read_json = read(document)
    assert read_json.text == lay_out(json.dumps(document))
    assert read_json.places.cues == ()


def test_a_transcript_that_is_cut_off_keeps_its_text() -> None:
    cut = json.dumps(LAYOUTS["whisper"])[:-20].encode()
    assert "The mill" in read_as(Format.JSON, cut).text
