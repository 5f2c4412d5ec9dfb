"""Makes token ids of texts: with a fast library if it agrees with the reference, else with the reference."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tokenizers
from loguru import logger
from numpy.typing import NDArray

from embedfleet.chunking.repertoire import sample, settled_ranges, unsettled_pattern
from embedfleet.chunking.tokenizer_probes import cuts, disputed_texts
from embedfleet.errors import ModelError, one_line

TokenArrays = tuple[NDArray[np.uint32], NDArray[np.int64]]

_MAX_ADDED_TOKENS_TRIED = 16


class Tokenizer(Protocol):
    """A model's tokeniser. Safe to call from several threads."""

    @property
    def concatenable(self) -> bool:
        """Whether the token ids of a text are those of its atoms, one after the other.

        Every kind of cut between atoms was tried to find this out.
        """
        ...

    def encode_batch(self, texts: Sequence[str]) -> TokenArrays:
        """Token ids: uint32 (sum(lengths),), concatenated; lengths: int64 (len(texts),).

        Adds no special tokens, truncates and pads nothing. A lone surrogate is no character and counts as
        U+FFFD.
        """
        ...


class ReferenceTokenizer:
    """The library `tokenizers` of Hugging Face."""

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    @functools.cached_property
    def concatenable(self) -> bool:
        return is_concatenable(self, self.added_tokens)

    @property
    def added_tokens(self) -> list[str]:
        """The tokens that the tokeniser looks for in a text before it does anything else."""
        return [token.content for token in self._tokenizer.get_added_tokens_decoder().values()]

    def encode_batch(self, texts: Sequence[str]) -> TokenArrays:
        valid = [text if text.isascii() else _without_surrogates(text) for text in texts]
        encodings = self._tokenizer.encode_batch_fast(valid, add_special_tokens=False)
        rows = [encoding.ids for encoding in encodings]
        lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
        ids = np.fromiter(itertools.chain.from_iterable(rows), dtype=np.uint32, count=int(lengths.sum()))
        return ids, lengths


class FastTokenizer:
    """Uses `tokie` for the texts on which it can agree with the reference, and the reference for the others.

    `agrees_with_reference` finds out whether the two really agree for one tokeniser's file.
    """

    # tokie splits a text over 64 KiB, perhaps inside of a word, and works on the parts in parallel. A
    # character takes up to 4 bytes.
    _LONGEST_TEXT_CHARS = 16_384

    def __init__(self, fast: Any, reference: ReferenceTokenizer) -> None:
        self._fast = fast
        self._fast.no_truncation()
        self._fast.no_padding()
        self._reference = reference
        self._settled = settled_ranges()
        self._unsettled = unsettled_pattern(self._settled)

    @functools.cached_property
    def concatenable(self) -> bool:
        return is_concatenable(self, self._reference.added_tokens)

    def agrees_with_reference(self) -> bool:
        """Compare the two on about ten thousand texts."""
        texts = disputed_texts(sample(self._settled))
        (ids, lengths), (reference_ids, reference_lengths) = (
            self.encode_batch(texts),
            self._reference.encode_batch(texts),
        )
        return np.array_equal(ids, reference_ids) and np.array_equal(lengths, reference_lengths)

    def encode_batch(self, texts: Sequence[str]) -> TokenArrays:
        doubtful = self._doubtful(texts)
        if not doubtful:
            return self._encode_fast(texts)
        settled = sorted(set(range(len(texts))).difference(doubtful))
        return _interleaved(
            len(texts),
            (settled, self._encode_fast([texts[i] for i in settled])),
            (doubtful, self._reference.encode_batch([texts[i] for i in doubtful])),
        )

    def _doubtful(self, texts: Sequence[str]) -> list[int]:
        """Positions of the texts that only the reference tokenises reliably; mostly none."""
        # Most batches have no such text: this joined check is much faster than one of each text.
        wide = "".join([text for text in texts if not text.isascii()])
        if (
            self._unsettled.search(wide) is None
            and "\x7f" not in "".join(texts)
            and max(map(len, texts), default=0) <= self._LONGEST_TEXT_CHARS
        ):
            return []
        return [
            i
            for i, text in enumerate(texts)
            if len(text) > self._LONGEST_TEXT_CHARS or self._unsettled.search(text) is not None
        ]

    def _encode_fast(self, texts: Sequence[str]) -> TokenArrays:
        try:
            ids, lengths = self._fast.encode_batch_flat(list(texts), add_special_tokens=False)
        except BaseException as exc:
            # pyo3 raises a panic of Rust code as this class, which is derived from BaseException.
            if type(exc).__name__ != "PanicException":
                raise
            logger.warning("the fast tokeniser panicked: the reference takes this batch")
            return self._reference.encode_batch(texts)
        return ids, lengths.astype(np.int64)


@functools.lru_cache(maxsize=16)
def load_reference(file: Path) -> ReferenceTokenizer:
    """Load the reference for a `tokenizer.json`, once for each file and process.

    Raises ModelError, naming the file, if it cannot be read.
    """
    try:
        return ReferenceTokenizer(tokenizers.Tokenizer.from_file(str(file)))
    except Exception as exc:
        problem = one_line(exc)
        raise ModelError(f"{file}: not a readable tokenizer.json ({problem})") from exc


@functools.lru_cache(maxsize=16)
def load_tokenizer(file: Path) -> Tokenizer:
    """Load the tokeniser of a `tokenizer.json`, once for each file and process.

    Returns the fast one if it can read the file and agrees with the reference, else the reference. Raises as
    `load_reference` does.
    """
    import tokie  # not above: queries do without

    reference = load_reference(file)
    try:
        fast = FastTokenizer(tokie.Tokenizer.from_json(str(file)), reference)
    except tokie.TokieError as exc:
        logger.info("{}: the reference tokenises, the fast one cannot read it ({})", file, exc)
        return reference
    if fast.agrees_with_reference():
        return fast
    logger.info("{}: the reference tokenises, the fast one differed on the self-check", file)
    return reference


def is_concatenable(tokenizer: Tokenizer, added_tokens: list[str]) -> bool:
    """Try every kind of cut between atoms, and cuts beside the tokeniser's added tokens."""
    tried = list(cuts(added_tokens[:_MAX_ADDED_TOKENS_TRIED]))
    whole_ids, whole_lengths = tokenizer.encode_batch([left + gap + right for left, gap, right in tried])
    ids, lengths = tokenizer.encode_batch([part for left, _, right in tried for part in (left, right)])
    return np.array_equal(whole_ids, ids) and np.array_equal(whole_lengths, lengths[0::2] + lengths[1::2])


def _without_surrogates(text: str) -> str:
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _interleaved(count: int, *parts: tuple[list[int], TokenArrays]) -> TokenArrays:
    """Merge results for disjoint lists of positions into one result, in the order of the `count` texts."""
    rows: list[NDArray[np.uint32]] = [np.empty(0, dtype=np.uint32)] * count
    for positions, (ids, lengths) in parts:
        ends = np.cumsum(lengths).tolist()
        for position, length, end in zip(positions, lengths.tolist(), ends, strict=True):
            rows[position] = ids[end - length : end]
    lengths = np.fromiter(map(len, rows), dtype=np.int64, count=count)
    return np.concatenate([np.empty(0, dtype=np.uint32), *rows]), lengths
