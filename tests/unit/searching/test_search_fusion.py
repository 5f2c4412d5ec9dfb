"""Hits of several models as one list: each with its model, and a text that several have once."""

from __future__ import annotations

import numpy as np

from embedfleet.queue_schemas import PassageCopy, SearchHit
from embedfleet.routing.fusion import Background
from embedfleet.searching.fusion import HitsOfSpace, fused_hits


def background(mean: float) -> Background:
    return Background.of(np.random.default_rng(1).normal(mean, 0.1, 1_000).astype(np.float32))


def hit(media_id: str, score: float, text: str, *copies: PassageCopy) -> SearchHit:
    return SearchHit(
        score=score,
        source=None,
        media_id=media_id,
        chunk_id=media_id,
        start=0,
        end=len(text),
        heading="",
        text=text,
        copies=copies,
    )


def copy(media_id: str) -> PassageCopy:
    return PassageCopy(source=None, media_id=media_id, chunk_id=media_id, start=0, end=1, heading="")


NEAR, FAR = background(0.6), background(0.0)


def test_the_rarest_scores_come_first_and_each_hit_says_its_model() -> None:
    near = HitsOfSpace("near", [hit("1", 0.95, "a"), hit("2", 0.7, "b")], NEAR)
    far = HitsOfSpace("far", [hit("3", 0.5, "c"), hit("4", 0.01, "d")], FAR)
    found = fused_hits([near, far], most=3)
    assert [(one.media_id, one.model, one.score) for one in found] == [
        ("3", "far", 0.5),
        ("1", "near", 0.95),
        ("2", "near", 0.7),
    ]
    rare = [one.calibrated or 0.0 for one in found]
    assert rare == sorted(rare, reverse=True)
    assert rare[1] == round(NEAR.calibrated(0.95), 4)


def test_a_text_of_several_spaces_is_one_hit_with_all_its_places() -> None:
    near = HitsOfSpace("near", [hit("1", 0.95, "a"), hit("2", 0.7, "same", copy("5"))], NEAR)
    far = HitsOfSpace("far", [hit("3", 0.5, "same", copy("4"))], FAR)
    first, second = fused_hits([near, far], most=2)
    assert (first.media_id, [one.media_id for one in first.copies]) == ("3", ["4", "2", "5"])
    assert (second.media_id, second.copies) == ("1", ())


def test_a_document_that_moved_during_the_search_is_shown_of_one_space() -> None:
    near = HitsOfSpace("near", [hit("moved", 0.95, "old"), hit("2", 0.7, "same", copy("moved"))], NEAR)
    far = HitsOfSpace(
        "far", [hit("moved", 0.5, "new"), hit("3", 0.4, "c", copy("2")), hit("4", 0.01, "same")], FAR
    )
    found = fused_hits([near, far], most=9)
    assert [(one.media_id, one.text) for one in found] == [("moved", "new"), ("3", "c"), ("4", "same")]
    every = [name for one in found for name in (one.media_id, *(each.media_id for each in one.copies))]
    assert sorted(every) == ["2", "3", "4", "moved"]
