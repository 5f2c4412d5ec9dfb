"""Pages of a PDF as their readers see them; pages without text are named."""

from __future__ import annotations

import io
import zlib
from collections.abc import Sequence

import pypdfium2
import pytest

from embedfleet.account_codes import Code
from embedfleet.errors import ConfigError, ParseError
from embedfleet.parsing import sandbox
from embedfleet.parsing.draft import Draft
from embedfleet.parsing.formats import Format, ParsedDocument
from embedfleet.parsing.pdf.document import read_pdf
from embedfleet.parsing.source_hash import source_hash_of
from embedfleet.settings import ParsingSettings
from support.reading import read_as

Line = tuple[float, float, float, str]
"""Points from the left and from the bottom, the size of the letters, the text."""

SENTENCE = "The ringer had been dismissed in January, and the new one lived across the river"
_IMAGE = "q 500 0 0 700 50 50 cm BI /W 1 /H 1 /CS /G /BPC 8 ID \x00 EI Q"


def document(pages: Sequence[Sequence[Line] | str], *, extra: Sequence[str] = (), page: str = "") -> bytes:
    """A PDF with these lines or operators on its pages. `extra`: more objects, from number 4 on."""
    objects = ["", "", "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>", *extra]
    kids = []
    for lines in pages:
        drawn = lines if isinstance(lines, str) else "\n".join(map(_drawn, lines))
        objects.append(f"<< /Length {len(drawn)} >>\nstream\n{drawn}\nendstream")
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {len(objects)} 0 R {page} "
            "/Resources << /Font << /F1 3 0 R >> >> >>"
        )
        kids.append(f"{len(objects)} 0 R")
    forms = "/AcroForm << /Fields [4 0 R] /DR << >> >>" if extra else ""
    objects[0] = f"<< /Type /Catalog /Pages 2 0 R {forms} >>"
    objects[1] = f"<< /Type /Pages /Kids [{' '.join(kids)}] /Count {len(kids)} >>"
    body = "%PDF-1.7\n" + "".join(f"{n} 0 obj\n{one}\nendobj\n" for n, one in enumerate(objects, 1))
    return (body + f"trailer\n<< /Root 1 0 R /Size {len(objects) + 1} >>\n%%EOF\n").encode("latin-1")


def _drawn(line: Line) -> str:
    x, y, size, text = line
    return f"BT /F1 {size} Tf {x} {y} Td ({text}) Tj ET"


def read(pages: Sequence[Sequence[Line] | str]) -> ParsedDocument:
    return read_as(Format.PDF, document(pages))


def text_lines(*texts: str, x: float = 72, top: float = 700, size: float = 11) -> list[Line]:
    return [(x, top - 14 * number, size, text) for number, text in enumerate(texts)]


def test_lines_are_joined_to_paragraphs_and_a_sentence_goes_on_over_the_page() -> None:
    found = read([text_lines(SENTENCE, SENTENCE), text_lines("and rang no more.", "It was over.")])
    assert found.text == f"{SENTENCE} {SENTENCE} and rang no more. It was over.\n"
    assert found.places.pages == ((0, 1), (len(f"{SENTENCE} {SENTENCE} "), 2))
    assert dict(found.account.found) == {"pages": 2}


def test_larger_letters_are_a_heading_and_a_divided_word_is_whole() -> None:
    found = read([[(72, 740, 20, "The lower mill"), *text_lines("The wheel was in-", "spected and turned.")]])
    assert found.text == "# The lower mill\n\nThe wheel was inspected and turned.\n"


def test_a_running_head_and_page_numbers_are_no_text_and_are_said() -> None:
    pages = [
        [(72, 760, 9, "Mill chronicle"), *text_lines(f"Chapter {n} tells of it."), (300, 30, 9, f"Page {n}")]
        for n in range(1, 6)
    ]
    found = read(pages)
    assert found.text.split("\n\n") == [f"Chapter {n} tells of it." + "\n" * (n == 5) for n in range(1, 6)]
    (entry,) = found.account.entries
    assert (entry.code, entry.count) == (Code.RUNNING_HEAD, 10)


def test_cells_below_each_other_are_a_table() -> None:
    rows = [("Nr", "Part", "Burst pressure"), ("17", "valve-017", "18 bar"), ("18", "valve-018", "19 bar")]
    rows += [("19", "valve-019", "20 bar")]
    lines = [
        (x, 700 - 16 * n, 11, cell)
        for n, row in enumerate(rows)
        for x, cell in zip((72, 150, 260), row, strict=True)
    ]
    assert "| 17 | valve-017 | 18 bar |" in read([lines]).text.splitlines()


def test_two_columns_are_read_one_after_the_other() -> None:
    left = text_lines(*[f"left line {n} of the prose that goes on" for n in range(8)], size=9)
    right = text_lines(*[f"right line {n} of the prose that goes on" for n in range(8)], x=330, size=9)
    text = read([[line for pair in zip(left, right, strict=True) for line in pair]]).text
    assert text.index("left line 7") < text.index("right line 0")


def test_pages_without_text_are_lost_and_named_and_count_for_the_coverage() -> None:
    found = read([text_lines("Cover sheet of the minutes."), _IMAGE, _IMAGE, text_lines("The end."), _IMAGE])
    (lost,) = found.account.lost
    assert lost.line.startswith(
        "lost: 3 pages without a text layer, probably scanned (pages 2-3, 5): run OCR"
    )
    assert found.account.coverage(covered=30, visible=30) == pytest.approx(2 / 5)
    with pytest.raises(ParseError, match=r"no text that can be read \(lost: 1 page without a text layer"):
        read([_IMAGE])


@pytest.mark.parametrize("stamp", ["Scanned by the archive", "Bates {} of 9", "{}"])
def test_scans_with_only_a_stamp_or_a_page_number_are_lost_too(stamp: str) -> None:
    scans = [f"{_IMAGE}\nBT /F1 8 Tf 200 20 Td ({stamp.format(n)}) Tj ET" for n in range(2, 5)]
    (lost,) = read([text_lines("Cover sheet of the minutes."), *scans]).account.lost
    assert (lost.code, lost.count, lost.places) == (Code.PDF_WITHOUT_TEXT, 3, ("pages 2-4",))


def test_a_cover_with_words_of_its_own_on_a_picture_and_a_recognised_scan_are_not_lost() -> None:
    recognised = "\n".join(map(_drawn, text_lines(*[f"{SENTENCE} {n}" for n in range(9)])))
    cover = f"{_IMAGE}\n{_drawn((200, 400, 30, 'Annual report'))}"
    found = read([cover, f"{_IMAGE}\n{recognised}", f"{_IMAGE}\n{recognised}"])
    assert found.account.lost == ()
    assert dict(found.account.found) == {"pages": 3}


def test_letters_that_are_no_characters_make_no_empty_document() -> None:
    with pytest.raises(ParseError, match="no text that can be read"):
        read(["BT /F1 11 Tf 72 700 Td (\x01\x02\x03) Tj ET"])


def test_two_pieces_of_a_line_that_are_nearer_than_columns_are_no_table() -> None:
    # Between the small letters the gap is wide for them, and narrow for the large letters of the line.
    line = [(72, 700, 20, "Millwheel"), (158, 700, 4, "a"), (166, 700, 4, "b")]
    assert read([line]).text == "Millwheel a b\n"


@pytest.mark.parametrize(
    "field",
    [
        "/Subtype /Widget /FT /Tx /Ff 8192 /T (pass) /V (secret)",
        "/Subtype /Widget /FT /Tx /F 2 /T (mill) /V (secret)",
        "/Subtype /Text /F 2 /Contents (secret)",
    ],
)
def test_what_a_viewer_does_not_show_is_no_text_and_is_said(field: str) -> None:
    hidden = f"<< /Type /Annot {field} /Rect [100 600 300 620] >>"
    found = read_as(Format.PDF, document([text_lines("Shown.")], extra=[hidden], page="/Annots [4 0 R]"))
    assert found.text == "Shown.\n"
    assert [entry.code for entry in found.account.entries] == [Code.HIDDEN]


def test_all_chosen_options_of_a_list_are_in_the_text() -> None:
    options = "/FT /Ch /Ff 2097152 /T (river) /Opt [(Ouse) (Aire) (Wharfe)] /V [(Aire) (Wharfe)]"
    field = f"<< /Type /Annot /Subtype /Widget {options} /Rect [100 600 300 620] >>"
    found = read_as(Format.PDF, document([text_lines("Form.")], extra=[field], page="/Annots [4 0 R]"))
    assert "river: Aire, Wharfe" in found.text


def test_values_of_forms_are_in_the_text() -> None:
    field = (
        "<< /Type /Annot /Subtype /Widget /FT /Tx /T (mill) /V (Lower Sluiceham) /Rect [100 600 300 620] >>"
    )
    filled = document([text_lines("Name of the mill:")], extra=[field], page="/Annots [4 0 R]")
    assert read_as(Format.PDF, filled).text == "Name of the mill:\n\nmill: Lower Sluiceham\n"


def test_a_broken_file_is_refused_in_one_line() -> None:
    with pytest.raises(ParseError, match="is broken"):
        read_as(Format.PDF, b"%PDF-1.7\nnothing")


# --- OCR ---


def scan(lines: Sequence[Line]) -> str:
    """The operators of a page that is a picture of these lines, as a scanner makes it."""
    page = pypdfium2.PdfDocument(document([lines]))[0]
    gray = page.render(scale=200 / 72, grayscale=True).to_numpy().squeeze()
    height, width = gray.shape
    data = zlib.compress(gray.tobytes()).hex()
    image = f"BI /W {width} /H {height} /CS /G /BPC 8 /F [/AHx /Fl] ID {data}> EI"
    return f"q 612 0 0 792 0 0 cm {image} Q"


def test_ocr_that_is_not_installed_is_said_before_any_file_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"parsing\.ocr: OCR is not installed"):
        sandbox.ParserSandbox(ParsingSettings(ocr=True))


def test_files_that_are_read_with_ocr_count_as_other_files() -> None:
    plain, read = (source_hash_of(io.BytesIO(b"x"), ocr=ocr) for ocr in (False, True))
    assert plain == source_hash_of(io.BytesIO(b"x")) != read


@pytest.mark.slow
async def test_scanned_pages_are_read_by_ocr_in_the_confined_process_and_it_is_said() -> None:
    pytest.importorskip("rapidocr", reason="install embedfleet[ocr]")
    scanned = text_lines("The gate was closed at noon.", "The night crew keeps the key.", size=12)
    data = document([text_lines("Cover sheet of the minutes."), scan(scanned), _IMAGE])
    async with sandbox.ParserSandbox(ParsingSettings(ocr=True)) as parser:
        found = await parser.parse_bytes(data, name="minutes.pdf")
    assert "The gate was closed at noon. The night crew keeps the key." in found.text
    entries = {entry.code: entry for entry in found.account.entries}
    assert entries[Code.PDF_OCR].places == ("page 2",)
    assert entries[Code.PDF_WITHOUT_TEXT].places == ("page 3",)
    assert dict(found.account.found) == {"pages": 2}


@pytest.mark.slow
def test_a_scan_for_which_no_time_is_left_is_lost_and_says_so() -> None:
    pytest.importorskip("rapidocr", reason="install embedfleet[ocr]")
    data = document([text_lines("Cover sheet of the minutes."), _IMAGE])
    draft = Draft(lambda text: None, ocr_until=0.0)
    read_pdf(io.BytesIO(data), draft)
    assert [entry.code for entry in draft.account.account.lost] == [Code.PDF_OCR_TIME]
