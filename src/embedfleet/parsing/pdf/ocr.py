"""Reads pages that are pictures with RapidOCR, whose models are in its package (the extra `ocr`)."""

from __future__ import annotations

import logging
import statistics
import time
from functools import cache
from typing import Any

import pypdfium2 as pypdfium

from embedfleet.parsing.pdf.geometry import UPRIGHT
from embedfleet.parsing.pdf.lines import Segment
from embedfleet.parsing.pdf.words import Font, Word

_DOTS_PER_INCH = 200  # what scanners use for text; more takes longer and reads no better
_POINTS_PER_INCH = 72
_MOST_DOTS = 4000  # of the longer side: a page of a hostile file may be metres long
_LEAST_SCORE = 0.5  # RapidOCR's own limit: what is below is no text
_BASELINE = 0.8  # of the height of a line's box, from its top


def has_time(until: float) -> bool:
    """Whether the process may use more CPU time for OCR."""
    return time.process_time() < until


def segments_in(page: pypdfium.PdfPage) -> list[Segment]:
    """Return the lines that are read in the picture of a page, each as one word. It takes seconds.

    All have letters of one size: the boxes of a scan are too rough to tell headings by.
    """
    longest = max(page.get_size())
    scale = min(_DOTS_PER_INCH / _POINTS_PER_INCH, _MOST_DOTS / max(longest, 1.0))
    read = _engine()(page.render(scale=scale).to_numpy())
    if read.boxes is None:
        return []
    boxes = [
        (text.strip(), box / scale)
        for text, score, box in zip(read.txts, read.scores, read.boxes, strict=True)
        if text.strip() and score >= _LEAST_SCORE
    ]
    if not boxes:
        return []
    heights = [float(box[:, 1].max() - box[:, 1].min()) for _, box in boxes]
    font = Font(round(_BASELINE * statistics.median(heights), 1), False, False, UPRIGHT, False)
    segments = [
        Segment([Word(text, float(box[:, 0].min()), float(box[:, 0].max()), _baseline(box), font)])
        for text, box in boxes
    ]
    return sorted(segments, key=lambda one: (one.baseline, one.x0))


def _baseline(box: Any) -> float:
    top, bottom = float(box[:, 1].min()), float(box[:, 1].max())
    return top + _BASELINE * (bottom - top)


@cache
def _engine() -> Any:
    """The models, loaded once in a process. One thread, as the parser processes run in parallel already."""
    from rapidocr import RapidOCR

    logging.getLogger("RapidOCR").setLevel(logging.ERROR)
    threads = ("intra_op_num_threads", "inter_op_num_threads")
    return RapidOCR(params={f"EngineConfig.onnxruntime.{name}": 1 for name in threads})
