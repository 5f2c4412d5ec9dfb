"""The ids of a copy's chunks tell the ids that the document itself would have."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from embedfleet.chunking.chunker import Chunker
from embedfleet.chunking.tokenizers import load_tokenizer
from embedfleet.inference.catalogue import Catalogue
from embedfleet.lifecycle.chunk_rows import chunk_row
from embedfleet.places import NOWHERE
from embedfleet.queue_schemas import ChunkInfo, ChunkingConfig, ChunkMethod
from embedfleet.records.identity import ChunkIds, document_id
from embedfleet.settings import ModelsSettings
from embedfleet.traffic.paths import IngestRequest
from embedfleet.traffic.shadow_fleet import TrueIds, copy_for
from support.examples import examples

MODEL = Catalogue(ModelsSettings()).info("stub")
SMALL = ChunkingConfig(chunk_size=40, overlap=10, method=ChunkMethod.SENTENCES)
# Some are read as other characters than they have; equal sentences come again and again.
SENTENCES = st.sampled_from(
    ["Pumps move. ", "The ﬁrst. ", "\U0001d41b\U0001d428ld. ", "# Head\n", "Valve!\n\n"]
)


@settings(max_examples=examples(60))
@given(st.lists(SENTENCES, min_size=1, max_size=30).map("".join), st.sampled_from(["text", "markdown"]))
def test_the_ids_of_a_document_follow_from_those_of_its_copy(content: str, content_type: str) -> None:
    request = IngestRequest("alice", "a", content, content_type=content_type, title="Notes")
    copy = copy_for(request, "shadow:shd_1")
    true_ids = [chunk.chunk_id for chunk in chunks_of(request)]
    assert TrueIds(copy, request, MODEL.space).of(chunks_of(copy)) == true_ids

    other = replace(request, content=content + "More.")
    assert TrueIds(copy, other, "another space").of(chunks_of(copy)) != true_ids


def chunks_of(request: IngestRequest) -> list[ChunkInfo]:
    """Return the chunks of a document as the fleet tells them."""
    tokenizer = load_tokenizer(MODEL.tokenizer_file)
    chunker = Chunker(tokenizer, SMALL, max_tokens=MODEL.max_tokens, content_type=request.content_type)
    ids = ChunkIds(document_id(request.tenant, request.media_id), MODEL.space)
    made = [one for some in chunker.split([request.content], title=request.title) for one in some]
    return [
        ChunkInfo(
            chunk_index=row.chunk_index,
            chunk_id=row.chunk_id,
            start=row.start,
            end=row.end,
            tokens=row.tokens,
            unknown_tokens=row.unknown,
            heading=row.heading,
            context=row.context,
        )
        for row in (chunk_row(chunk, ids, NOWHERE) for chunk in made)
    ]
