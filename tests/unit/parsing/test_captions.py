"""Captions become running speech: each part once, with its seconds, and no text is lost in damaged files."""

from __future__ import annotations

from itertools import pairwise

import pytest

from embedfleet.account_codes import Code
from embedfleet.parsing.formats import Format, ParsedDocument
from support.reading import read_as

LINES = (
    "So today we look at how the lower mill",
    "lost its wheel in a single night,",
    "and why no one rang the bell.",
    "The ringer had been dismissed in January",
    "because he drank on duty.",
)
SPEECH = " ".join(LINES) + "\n"


def captions(text: str) -> ParsedDocument:
    return read_as(Format.CAPTIONS, text.encode())


def clock(seconds: float, comma: str = ",") -> str:
    return f"00:00:{int(seconds):02}{comma}{round(seconds % 1 * 1000):03}"


def srt(texts: tuple[str, ...]) -> str:
    """Cues of 3.5 seconds, one every 4 seconds."""
    return "\n".join(
        f"{i + 1}\n{clock(4 * i)} --> {clock(4 * i + 3.5)}\n{text}\n" for i, text in enumerate(texts)
    )


def codes(document: ParsedDocument) -> set[Code]:
    return {entry.code for entry in document.account.entries}


def test_subrip_becomes_sentences_with_their_seconds() -> None:
    document = captions(srt(tuple(f"<i>{line}</i>" for line in LINES)))
    assert document.text == SPEECH
    assert document.content_type == "text"
    assert document.account.entries == ()
    ringer = SPEECH.index("The ringer")
    assert document.places.seconds_of(ringer, ringer + 5) == (12.0, 15.5)
    assert document.places.seconds_of(0, ringer) == (0.0, 11.5)


def rolling_vtt(*, frames: bool) -> str:
    """What YouTube writes: the last line stays, the next grows word by word; then both for 10 ms."""
    cues = []
    for i, (before, line) in enumerate(pairwise((" ", *LINES))):
        first, *others = line.split()
        grown = first + "".join(f"<{clock(3 * i + 0.2, '.')}><c> {word}</c>" for word in others)
        times = f"{clock(3 * i, '.')} --> {clock(3 * i + 2.99, '.')}"
        cues.append(f"{times} align:start position:0%\n{before}\n{grown}\n")
        if frames:
            cues.append(f"{clock(3 * i + 2.99, '.')} --> {clock(3 * i + 3, '.')}\n{line}\n \n")
    return (
        "WEBVTT\nKind: captions\nLanguage: en\n\nSTYLE\n::cue { color: white }\n\nNOTE by hand\n\n"
        + "\n".join(cues)
    )


@pytest.mark.parametrize("frames", [True, False])
def test_rolling_captions_are_read_once(frames: bool) -> None:
    document = captions(rolling_vtt(frames=frames))
    assert document.text == SPEECH
    assert codes(document) == {Code.SPEECH_REPEATED, Code.SPEECH_COMMENT}
    assert dict(document.account.found) == {"cues": len(LINES)}


def test_rolling_captions_are_read_once_also_in_subrip_and_word_by_word() -> None:
    rolled = srt(tuple(f"{before}\n{line}" for before, line in pairwise(("", *LINES))))
    assert captions(rolled).text == SPEECH
    words = SPEECH.split()
    grown = srt(tuple(" ".join(words[:n]) for n in range(1, 12)))
    assert captions(grown).text == " ".join(words[:11]) + "\n"


def test_what_speakers_say_twice_stays() -> None:
    texts = ("No.", "No.", "No. I said no.", "You know", "you know the rule.", "Stop!", "Stop!", "Go.")
    assert captions(srt(texts)).text == " ".join(texts) + "\n"


def test_a_caption_in_frames_or_layers_is_said_once() -> None:
    frames = "".join(f"{i}\n{clock(i / 25)} --> {clock((i + 1) / 25)}\nThe mill\n\n" for i in range(20))
    assert captions(frames).text == "The mill\n"


@pytest.mark.parametrize(
    ("marked", "said"),
    [
        (r"{\an8}Up here{\i1} now", "Up here now"),
        ('<font color="#ff0000">red</font> <b>bold</b>', "red bold"),
        ("if a < b and c > d", "if a < b and c > d"),
        ("AT&amp;T &lt;i&gt; R&D", "AT&T <i> R&D"),
        ("one<br>two", "one two"),
        ("- Who is there?\n- The miller.", "- Who is there?\n- The miller."),
        ("a set {1, 2} of numbers", "a set {1, 2} of numbers"),
        ("<ruby>漢<rt>kan</rt></ruby>字", "漢(kan)字"),
        ("[music] ♪ la la ♪", "[music] ♪ la la ♪"),
        ("first line\n\nbehind a blank line", "first line behind a blank line"),
        ("5", "5"),
    ],
)
def test_marks_are_no_text_and_text_is_no_mark(marked: str, said: str) -> None:
    assert captions(srt(("before.", marked, "after"))).text.split("before. ")[-1] in (
        f"{said} after\n",
        f"before.\n{said} after\n",
    )


def test_voices_and_speakers_begin_paragraphs() -> None:
    vtt = (
        "WEBVTT - The flood\n\nintro\n00:01.000 --> 00:02.000\n<v Ann>Is the gate shut?\n\n"
        "00:02.100 --> 00:03.000\n<v.loud Ann>Say it.</v>\n\n"
        "00:03.100 --> 00:04.000\n<v Bob>It is &amp; was.</v>\n"
    )
    document = captions(vtt)
    assert document.text == "Ann: Is the gate shut? Say it.\n\nBob: It is & was.\n"
    assert document.title == "The flood"
    assert document.places.cues[0][1:] == (1.0, 2.0)
    assert captions(srt(("ANN: Yes.", "BOB: No.", ">> What?"))).text == "ANN: Yes.\n\nBOB: No.\n\n>> What?\n"


def test_a_long_pause_ends_a_paragraph_but_no_sentence() -> None:
    def at(start: int, text: str) -> str:
        return f"{clock(start)} --> {clock(start + 1)}\n{text}\n\n"

    assert (
        captions(at(0, "It rains,") + at(4, "he said.") + at(8, "Then")).text
        == "It rains, he said.\n\nThen\n"
    )
    assert captions(at(0, "It rains,") + at(20, "he said.")).text == "It rains,\n\nhe said.\n"


@pytest.mark.parametrize(
    "time",
    [
        "00:00:xx,000 --> 00:00:07,500",
        "00:00:04,000 --> ",
        "00:00:04,000 -->",
        "00:00:09,000 --> 00:00:07,500",
        "??:??:?? --> ??:??:??",
    ],
)
def test_a_broken_time_is_in_doubt_and_its_text_stays(time: str) -> None:
    broken = srt(LINES).replace("00:00:04,000 --> 00:00:07,500", time)
    document = captions(broken)
    assert document.text == SPEECH
    (entry,) = document.account.entries
    assert (entry.code, entry.count, entry.places) == (Code.SPEECH_TIME, 1, ("line 6",))


@pytest.mark.parametrize(
    "time",
    [
        "0:0:4,0 --> 0:0:7,5",
        "00:04.000 --> 00:07.500",
        "00: 00: 04, 000 -> 00: 00: 07, 500",
        "00:00:04,000 --> 00:00:07,500 X1:40 X2:600 Y1:20 Y2:50",
        "00:00:04:000 → 00:00:07:500",
    ],
)
def test_times_of_other_programs_are_read(time: str) -> None:
    document = captions(srt(LINES).replace("00:00:04,000 --> 00:00:07,500", time))
    assert (document.text, document.account.entries) == (SPEECH, ())
    assert document.places.cues[1][1:] == (4.0, 7.5)


def test_no_text_is_lost_in_damaged_files() -> None:
    double_spaced = srt(LINES).replace("\n", "\n\n")
    assert captions(double_spaced).text == SPEECH
    without_blank_lines = srt(LINES).replace("\n\n", "\n")
    assert captions(without_blank_lines).text == SPEECH
    assert captions(srt(LINES).replace("\n", "\r\n")).text == SPEECH
    assert captions("Subtitles by Ann\n\n" + srt(LINES)).text == f"Subtitles by Ann\n\n{SPEECH}"
    assert captions("just words\nand more").text == "just words and more\n"
    glued = "00:00:00,000 --> 00:00:01,000 Hello\nthere\n"
    assert captions(glued).text == "Hello there\n"
    arrow = "1\n00:00:00,000 --> 00:00:01,000\nFrom 12:30 --> Paris, x --> y\n"
    assert captions(arrow).text == "From 12:30 --> Paris, x --> y\n"


def test_substation_gives_what_is_said_in_order_of_time() -> None:
    document = captions(
        "[Script Info]\nTitle: The flood\n; a remark\n"
        "[V4+ Styles]\nFormat: Name, Fontname\nStyle: Default,Arial\n"
        "[Events]\nFormat: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\n"
        "Dialogue: 0,0:00:05.00,0:00:06.00,Default,,0,0,0,,"
        "{\\k20}Se{\\k30}cond, with{TL note: a comma}\\Ncomma.\n"
        "Dialogue: 0,0:00:01.00,0:00:02.00,Default,Ann,0,0,0,,{\\pos(1,2)}First.\n"
        "Dialogue: 1,0:00:01.00,0:00:02.00,Default,Ann,0,0,0,,First.\n"
        "Dialogue: 0,0:00:08.00,0:00:09.00,Sign,,0,0,0,,{\\p1}m 0 0 l 9 9{\\p0}\n"
        "Dialogue: 0,broken,0:00:09.00,Default,,0,0,0,,Last\\hone.\n"
        "Comment: 0,0:00:01.00,0:00:02.00,Default,,0,0,0,,not said\n"
    )
    assert document.title == "The flood"
    assert sorted(document.text.split("\n\n")) == ["Ann: First.", "Last one.", "Second, with comma.\n"]
    assert codes(document) == {Code.SPEECH_COMMENT, Code.SPEECH_TIME, Code.SPEECH_REPEATED}


def test_timed_text_is_read_with_all_its_clocks() -> None:
    document = captions(
        '<?xml version="1.0"?><tt xmlns="urn:ttml" ttp:frameRate="25" ttp:tickRate="10"><head>'
        "<metadata><ttm:title>The flood</ttm:title>"
        '<ttm:agent xml:id="a"><ttm:name>Ann</ttm:name></ttm:agent></metadata></head><body><div><!-- no -->'
        '<p begin="00:00:01:05" end="2s">\nOne<br/>and <span style="i">two</span>,</p>\n'
        '<p begin="25t" dur="500ms">R&amp;D</p><tt:p begin="00:04.5" end="00:05">three.</tt:p>'
        '<p begin="x" ttm:agent="a">Lost?</p></div></body></tt>'
    )
    assert document.text == "One and two, R&D three.\n\nAnn: Lost?\n"
    assert document.title == "The flood"
    assert [cue[1:] for cue in document.places.cues] == [(1.2, 2.0), (2.5, 3.0), (4.5, 5.0)]
    assert codes(document) == {Code.SPEECH_TIME, Code.SPEECH_COMMENT}


@pytest.mark.parametrize(
    ("text", "said", "first_cue"),
    [
        (
            "0:00:01.000,0:00:02.500\nOne[br]two\n\n0:00:03.000,0:00:04.000\nthree\n",
            "One two three\n",
            (1.0, 2.5),
        ),
        ("[ti:Song]\n[ar:Ann]\n[00:01.50]One\n[00:03.00]two\n", "Ann\n\nOne\ntwo\n", (1.5, 3.0)),
        ("[00:05.00]b\n[00:01.00][00:07.00]a <00:01.20>x\n", "a x\nb\na x\n", (1.0, 5.0)),
        ("{1}{1}25.000\n{25}{50}{y:i}One|two\n{75}{100}three\n", "One two three\n", (1.0, 2.0)),
        (
            "<SAMI><HEAD><TITLE>T</TITLE></HEAD><BODY><SYNC Start=1000><P Class=EN>One<br>two"
            "<SYNC Start=2000><P>&nbsp;<SYNC Start=2500><P>three</BODY></SAMI>",
            "One two three\n",
            (1.0, 1.0),
        ),
        (
            '<transcript><text start="1.0" dur="2">One &amp;#39;two&amp;#39;</text></transcript>',
            "One 'two'\n",
            (1.0, 3.0),
        ),
        (
            '<timedtext format="3"><body><p t="1000" d="500"><s>One</s><s> two</s></p></body></timedtext>',
            "One two\n",
            (1.0, 1.5),
        ),
    ],
)
def test_other_layouts_are_recognised_by_their_content(
    text: str, said: str, first_cue: tuple[float, float]
) -> None:
    document = captions(text)
    assert document.text == said
    assert document.places.cues[0][1:] == first_cue


def test_a_text_file_is_captions_only_if_it_is_unmistakable() -> None:
    assert read_as(Format.TEXT, srt(LINES).encode()).text == SPEECH
    assert read_as(None, rolling_vtt(frames=True).encode()).text == SPEECH
    log = "1\n00:00:01 started --> done\n"
    assert read_as(Format.TEXT, log.encode()).text == log
    about = "WEBVTT is a format: 00:00:00.000 --> 00:00:01.000"
    assert read_as(Format.TEXT, about.encode()).text == about


def test_hostile_captions_cost_no_quadratic_time() -> None:
    for piece in ("<c", "{\\", "-->", "[a:", "\n1\n", "<v ", "00:", "[br]", "a:b", "<rt>", "- "):
        captions(piece * 20_000)
        captions("WEBVTT\n\n00:01.000 --> 00:02.000\n" + piece * 20_000)
    captions("<tt><p begin='1s'>text" + "<!--" * 20_000)
