"""The rows of an export, column by column, as `parquet_files` names them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedfleet.adoption.parquet_files import vector_column
from embedfleet.records.live_versions import Content

Columns = dict[str, Any]
"""A value for each row, by the name of the column."""


def passage_columns(contents: Sequence[Content], vectors: Mapping[str, NDArray[np.float32]]) -> Columns:
    """Return the rows of the passages of these contents. One without a vector was given up."""
    rows = [row for content in contents for row in content.chunks]
    return _names(contents, [len(content.chunks) for content in contents]) | {
        "chunk_index": [row.chunk_index for row in rows],
        "chunk_id": [row.chunk_id for row in rows],
        "start": [row.start for row in rows],
        "end": [row.end for row in rows],
        "tokens": [row.tokens for row in rows],
        "heading": [row.heading for row in rows],
        "context": [row.context for row in rows],
        "page": [row.page for row in rows],
        "start_seconds": [row.start_seconds for row in rows],
        "end_seconds": [row.end_seconds for row in rows],
        "text": [text for content in contents for text in content.chunk_texts],
        "vector": vector_column([vectors.get(row.chunk_id) for row in rows]),
    }


def document_columns(contents: Sequence[Content]) -> Columns:
    """Return the rows of the texts of these contents: a row for each span."""
    counts = [len(content.texts) for content in contents]
    recipes = [content.wanted.version.generation.recipe for content in contents]
    accounts = [content.wanted.version.generation.written_account for content in contents]
    return _names(contents, counts) | {
        "content_type": _repeated([recipe.content_type for recipe in recipes], counts),
        "chunking": _repeated([recipe.chunking.model_dump_json() for recipe in recipes], counts),
        "content_hash": _repeated([recipe.content_hash for recipe in recipes], counts),
        "source_hash": _repeated([recipe.source_hash for recipe in recipes], counts),
        "account": _repeated(accounts, counts),
        "chunks": _repeated([content.wanted.version.chunks for content in contents], counts),
        "chars": _repeated([recipe.chars for recipe in recipes], counts),
        "start": [start for content in contents for start, _ in content.wanted.spans],
        "text": [text for content in contents for text in content.texts],
    }


def _names(contents: Sequence[Content], counts: Sequence[int]) -> Columns:
    """What both kinds of rows say of their document and its vectors; `counts`: the rows of each content."""
    versions = [content.wanted.version.generation for content in contents]
    return {
        "tenant": _repeated([one.tenant for one in versions], counts),
        "media_id": _repeated([one.media_id for one in versions], counts),
        "version": _repeated([one.number for one in versions], counts),
        "source": _repeated([one.source for one in versions], counts),
        "title": _repeated([one.recipe.title for one in versions], counts),
        "metadata": _repeated([one.written_metadata or "{}" for one in versions], counts),
        "model": _repeated([one.collection.model for one in versions], counts),
        "space": _repeated([one.collection.space for one in versions], counts),
    }


def _repeated(values: Sequence[Any], counts: Sequence[int]) -> list[Any]:
    """Each value as often as its content has rows."""
    return [value for value, count in zip(values, counts, strict=True) for _ in range(count)]
