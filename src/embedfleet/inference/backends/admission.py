"""What every backend refuses before it runs its model."""

from __future__ import annotations

from embedfleet.errors import ModelError
from embedfleet.inference.backend import ModelInfo, TokenBatch

ANY_TOKEN_ID = 2**32
"""The vocabulary size of a backend that looks up no token ids: every uint32 is below it."""


def admit(batch: TokenBatch, info: ModelInfo, vocabulary_size: int) -> None:
    """Raises ModelError for a text over `max_tokens` or a token id outside the vocabulary.

    A native library would silently truncate such a text, and would read foreign memory for such an id.
    """
    if not len(batch):
        return
    longest = int(batch.lengths.max())
    if longest > info.max_tokens:
        raise ModelError(
            f"model {info.name}: a text has {longest} tokens, the model takes {info.max_tokens}: "
            "chunk it smaller"
        )
    if len(batch.token_ids) and int(batch.token_ids.max()) >= vocabulary_size:
        raise ModelError(
            f"model {info.name}: token id {int(batch.token_ids.max())} is outside the vocabulary of "
            f"{vocabulary_size}: tokenise with {info.tokenizer_file.name} of this model"
        )
