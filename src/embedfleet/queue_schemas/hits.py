"""What a search found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import Field

from embedfleet.document_metadata import Value
from embedfleet.errors import Remedy
from embedfleet.queue_schemas.vocabulary import Frozen


class PassageCopy(Frozen):
    """Where else the text of a hit stands, in the same document or in another one."""

    source: str | None
    media_id: str
    chunk_id: str
    start: int
    end: int
    heading: str
    page: int | None = None


class SearchHit(Frozen):
    """A passage of a live document. `start` and `end` are character offsets; `score` is cosine, -1 to 1.

    Scores of several models do not compare; `calibrated` does, and orders the hits of such a search.

    A text that stands in several places fills one hit, that of the nearest of them; `copies` are the others
    that the search met.
    """

    score: float
    source: str | None
    media_id: str
    chunk_id: str
    start: int
    end: int
    heading: str
    text: str
    page: int | None = Field(default=None, description="The page it begins on; None without pages.")
    start_seconds: float | None = Field(default=None, description="When it is said; None: no recording.")
    end_seconds: float | None = None
    context: str = Field(default="", description="Embedded before the text: title, headings, a header row.")
    metadata: dict[str, Value] = Field(default={}, description="What its submitter says of the document.")
    copies: tuple[PassageCopy, ...] = ()
    model: str | None = Field(
        default=None,
        description="The model that embedded it; None in answers of earlier releases, and while an online "
        "experiment mixes the hits of two models.",
    )
    calibrated: float | None = Field(
        default=None,
        description="How rare its score is among random pairs of its model: 2 if one in 100 has it, 3 if one "
        "in 1,000. None: only one model was searched.",
    )


class ModelDocuments(Frozen):
    """How many documents readers see that were embedded with a model."""

    model: str
    documents: int
    reason: str | None = Field(
        default=None, description="Why they could not be searched; None: another model was named."
    )


class Feedback(Frozen):
    """What was clicked in an answer of a search, after the last feedback."""

    impression_id: str = Field(description="The id that the answer had.")
    clicked: tuple[int, ...] = Field(description="All places that were clicked by now, from 0.")


class SearchHits(list[SearchHit]):
    """The hits of a search, nearest first, and what was searched for them.

    `models` are the models whose documents were searched, and `model` is the only one; None if there are none
    or several. `not_searched` are the tenant's documents of other models. `notice` says in one line what a
    reader of the hits must know: that documents were not searched, or why there are no hits. It is None if
    there is nothing to say; `remedy` is what helps.

    `exact`: every passage that the filter allows was compared with the query, so the hits are the nearest
    there are. Otherwise the index gave them, which is approximate. `candidates` are the passages that were
    compared, or the rows that the index gave. Both are of all models together.

    `impression_id` is what feedback on this answer names; None: it takes none.
    """

    def __init__(
        self,
        hits: Iterable[SearchHit] = (),
        *,
        models: Sequence[str] = (),
        not_searched: Sequence[ModelDocuments] = (),
        notice: str | None = None,
        remedy: Remedy | None = None,
        exact: bool = False,
        candidates: int = 0,
        impression_id: str | None = None,
    ) -> None:
        super().__init__(hits)
        self.models = tuple(models)
        self.not_searched = tuple(not_searched)
        self.notice = notice
        self.remedy = remedy
        self.exact = exact
        self.candidates = candidates
        self.impression_id = impression_id

    @property
    def model(self) -> str | None:
        """The model whose documents were searched; None if there are none, or of several models."""
        return self.models[0] if len(self.models) == 1 else None

    def json_document(self) -> dict[str, Any]:
        """Return the stable form that `--json` prints."""
        return {
            "hits": [hit.model_dump(mode="json") for hit in self],
            "model": self.model,
            "models": list(self.models),
            "not_searched": [one.model_dump(mode="json") for one in self.not_searched],
            "notice": self.notice,
            "remedy": self.remedy,
            "exact": self.exact,
            "candidates": self.candidates,
            "impression_id": self.impression_id,
        }

    @classmethod
    def of_json(cls, document: Mapping[str, Any]) -> SearchHits:
        """Return what `json_document` described. A description by an earlier release has only the hits."""
        model = document.get("model")
        return cls(
            [SearchHit.model_validate(hit, extra="ignore") for hit in document["hits"]],
            models=document.get("models", [] if model is None else [model]),
            not_searched=[
                ModelDocuments.model_validate(one, extra="ignore") for one in document.get("not_searched", ())
            ],
            notice=document.get("notice"),
            remedy=Remedy.from_code(document.get("remedy")),
            exact=document.get("exact", False),
            candidates=document.get("candidates", 0),
            impression_id=document.get("impression_id"),
        )
