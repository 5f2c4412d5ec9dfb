"""Reads documents of a source page by page, and has each of them judged."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from embedfleet.adoption.groups import GroupFinding, GroupOutcome
from embedfleet.adoption.judging import Judged, SourceRow, judged
from embedfleet.adoption.layout import SourceLayout
from embedfleet.adoption.survey import UNORDERED, DocumentKey, Group, RowRef, Survey, by_collection
from embedfleet.adoption.texts import KnownText, TextSource
from embedfleet.vectors.source import Source, SourceRows

# One read of the source, and one transaction to begin and one to end. Small, so that a kill costs little.
_ROWS_PER_PAGE = 1_000
_DOCUMENTS_PER_PAGE = 500


@dataclass(frozen=True, slots=True)
class ChosenDocument:
    """A document of the source, and its rows in the one group that counts. `others` counts its other rows."""

    key: DocumentKey
    finding: GroupFinding
    rows: Sequence[RowRef]
    others: int


@dataclass(frozen=True, slots=True)
class ReadDocument:
    """A document with what its rows say. `vectors`: float32 (n, dim), those of its rows."""

    chosen: ChosenDocument
    judged: Judged
    vectors: NDArray[np.float32]


def chosen_pages(found: Survey, findings: Mapping[Group, GroupFinding]) -> Iterator[list[ChosenDocument]]:
    """Yield all documents in pages, each with its rows in the group that counts.

    That is a group which is taken, if the document has one; of several groups, the one with the most rows.
    """
    page: list[ChosenDocument] = []
    rows = 0
    for key, groups in found.documents.items():
        chosen = _chosen(key, groups, findings)
        if page and (len(page) == _DOCUMENTS_PER_PAGE or rows + len(chosen.rows) > _ROWS_PER_PAGE):
            yield page
            page, rows = [], 0
        page.append(chosen)
        rows += len(chosen.rows)
    if page:
        yield page


def _chosen(
    key: DocumentKey, groups: Mapping[Group, Sequence[RowRef]], findings: Mapping[Group, GroupFinding]
) -> ChosenDocument:
    ranks = {GroupOutcome.TAKE: 2, GroupOutcome.EMBED: 1, GroupOutcome.REFUSE: 0}
    best = max(groups, key=lambda group: (ranks[findings[group].outcome], len(groups[group])))
    others = sum(len(rows) for group, rows in groups.items() if group != best)
    return ChosenDocument(key, findings[best], groups[best], others)


class Reading:
    """Reads the rows of documents, and their texts."""

    def __init__(self, source: Source, layout: SourceLayout, texts: TextSource | None) -> None:
        """`texts` None: the text of a document is made of its rows."""
        self._source = source
        self._layout = layout
        self._texts = texts

    async def read(self, page: Sequence[ChosenDocument]) -> list[ReadDocument]:
        """Read and judge these documents. Raises what the source and the texts raise."""
        if not page:
            return []
        known = None if self._texts is None else await self._texts.texts([one.key for one in page])
        wanted = by_collection(list(chain.from_iterable(one.rows for one in page)))
        rows = _RowsById()
        for collection, ids in wanted.items():
            rows.add(collection, await self._source.rows(collection, ids))
        return await asyncio.to_thread(lambda: [self._judge(one, rows, known) for one in page])

    def _judge(
        self, one: ChosenDocument, rows: _RowsById, known: Mapping[DocumentKey, KnownText] | None
    ) -> ReadDocument:
        found = rows.of(one.rows)
        source_rows = [
            SourceRow(
                place=place,
                order=None if ref.order == UNORDERED else ref.order,
                text=text or "",
                metadata=metadata,
                facts=self._layout.facts(metadata),
            )
            for place, (ref, text, metadata) in enumerate(found.rows)
        ]
        # A text that its own source does not have any more was thrown away there.
        text = None if known is None else known.get(one.key, KnownText("", gone=True))
        return ReadDocument(one, judged(source_rows, text, self._layout), found.vectors)


@dataclass(frozen=True, slots=True)
class _FoundRows:
    """Rows in order, and their vectors."""

    rows: Sequence[tuple[RowRef, str | None, Mapping[str, object]]]
    vectors: NDArray[np.float32]


class _RowsById:
    """Rows that were read, by collection and id."""

    def __init__(self) -> None:
        self._places: dict[tuple[str, str], int] = {}
        self._read: dict[str, SourceRows] = {}

    def add(self, collection: str, rows: SourceRows) -> None:
        self._read[collection] = rows
        self._places |= {(collection, row_id): place for place, row_id in enumerate(rows.ids)}

    def of(self, refs: Sequence[RowRef]) -> _FoundRows:
        """Return these rows, in order. One that is gone is left out."""
        found = [
            (ref, self._read[ref.collection], place)
            for ref in refs
            if (place := self._places.get((ref.collection, ref.row_id))) is not None
        ]
        vectors = [rows.vectors[place] for _, rows, place in found]
        return _FoundRows(
            [(ref, rows.texts[place], rows.metadatas[place]) for ref, rows, place in found],
            np.stack(vectors) if vectors else np.empty((0, 0), dtype=np.float32),
        )
