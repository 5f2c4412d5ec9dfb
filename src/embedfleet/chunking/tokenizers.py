"""Makes token ids of texts: with a fast library if it agrees with the reference, else with the reference."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from loguru import logger
from numpy.typing import NDArray

from embedfleet.chunking.preparation import Preparation
from embedfleet.chunking.repertoire import sample, settled_ranges, unsettled_pattern
from embedfleet.chunking.tokenizer_probes import cuts, disputed_texts
from embedfleet.chunking.words import word_spans
from embedfleet.errors import ModelError, one_line

if TYPE_CHECKING:  # it is imported when a tokenizer is loaded: a process that only looks needs none
    import tokenizers

TokenArrays = tuple[NDArray[np.uint32], NDArray[np.int64]]

_MAX_ADDED_TOKENS_TRIED = 16

_HARDLY_KNOWN = ("\U0002a6d6", "\ua4ff", "\U00012000", "\U0001fa78")
"""Characters that few vocabularies have: a rare Chinese one, a Lisu one, a cuneiform one, and a picture."""


class Tokenizer(Protocol):
    """A model's tokeniser. Safe to call from several threads."""

    @property
    def concatenable(self) -> bool:
        """Whether the token ids of a text are those of its atoms, one after the other.

        Every kind of cut between atoms was tried to find this out.
        """
        ...

    @property
    def unknown_id(self) -> int | None:
        """The id of the token for text that the model does not know; None if it has none."""
        ...

    def encode_batch(self, texts: Sequence[str]) -> TokenArrays:
        """Token ids: uint32 (sum(lengths),), concatenated; lengths: int64 (len(texts),).

        Adds no special tokens, truncates and pads nothing. A lone surrogate is no character and counts as
        U+FFFD. Ligatures, styled letters and the like are read as plain letters: see `Preparation`.
        """
        ...

    def unknown_spans(self, text: str) -> list[tuple[int, int]]:
        """Return what of the text the model does not know, as a half-open span for each unknown token.

        It is slower than `encode_batch`, so ask only if that gave the `unknown_id`.
        """
        ...

    def reads_otherwise(self, text: str) -> bool:
        """Whether the token ids are those of other characters than the text has: see `Preparation`."""
        ...


class ReferenceTokenizer:
    """The library `tokenizers` of Hugging Face."""

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        by_word = type(tokenizer.model).__name__ in ("WordPiece", "WordLevel")
        self.prepared = Preparation(self._knows_all, by_word=by_word)
        """Texts as they are tokenised."""

    @functools.cached_property
    def concatenable(self) -> bool:
        return is_concatenable(self, self.added_tokens)

    @functools.cached_property
    def unknown_id(self) -> int | None:
        model = self._tokenizer.model
        if hasattr(model, "unk_token"):
            named: int | None = self._tokenizer.token_to_id(model.unk_token) if model.unk_token else None
            return named
        # A Unigram model does not say which it is, but uses it.
        for encoding in self._tokenizer.encode_batch_fast(list(_HARDLY_KNOWN), add_special_tokens=False):
            for token_id in encoding.ids:
                if "unk" in str(self._tokenizer.id_to_token(token_id)).lower():
                    return int(token_id)
        return None

    @functools.cached_property
    def spells_in_bytes(self) -> bool:
        """Whether a text that is in no token's spelling becomes tokens of single bytes."""
        return self._is_byte_level or any(
            self._tokenizer.token_to_id(name) is not None for name in ("<0xE2>", "<0xe2>")
        )

    @functools.cached_property
    def _is_byte_level(self) -> bool:
        return "ByteLevel" in repr(self._tokenizer.pre_tokenizer)

    @property
    def added_tokens(self) -> list[str]:
        """The tokens that the tokeniser looks for in a text before it does anything else."""
        return [token.content for token in self._tokenizer.get_added_tokens_decoder().values()]

    def encode_batch(self, texts: Sequence[str]) -> TokenArrays:
        return self.encode_prepared(self.prepared(texts))

    def encode_prepared(self, texts: Sequence[str]) -> TokenArrays:
        """Return the token ids of texts that are `prepared`."""
        encodings = self._tokenizer.encode_batch_fast(_valid(texts), add_special_tokens=False)
        rows = [encoding.ids for encoding in encodings]
        lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
        ids = np.fromiter(itertools.chain.from_iterable(rows), dtype=np.uint32, count=int(lengths.sum()))
        return ids, lengths

    def unknown_spans(self, text: str) -> list[tuple[int, int]]:
        words = word_spans(text)
        plain = _valid(self.prepared([text[start:end] for start, end in words]))
        encodings = self._tokenizer.encode_batch(plain, add_special_tokens=False)
        spans = []
        for (start, end), word, encoding in zip(words, plain, encodings, strict=True):
            unknown = [
                (first, past)
                for token_id, (first, past) in zip(encoding.ids, encoding.offsets, strict=True)
                if token_id == self.unknown_id and word[first:past] != self._tokenizer.id_to_token(token_id)
            ]
            if unknown:
                origins = self.prepared.origins(text[start:end])
                spans += [
                    (start, end)
                    if origins is None
                    else (start + origins[first], start + origins[past - 1] + 1)
                    for first, past in unknown
                ]
        return spans

    def reads_otherwise(self, text: str) -> bool:
        return self.prepared.changes(text)

    def _knows_all(self, texts: Sequence[str]) -> list[bool]:
        encodings = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [not self._is_unknown(encoding) for encoding in encodings]

    def _is_unknown(self, encoding: tokenizers.Encoding) -> bool:
        """Whether a token is unknown, or a byte of a longer character."""
        if self.unknown_id in encoding.ids or any(token.startswith("<0x") for token in encoding.tokens):
            return True
        # Tokens with the same place in the text are bytes of one character.
        return self._is_byte_level and len(set(encoding.offsets)) < len(encoding.offsets)


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

    @property
    def unknown_id(self) -> int | None:
        return self._reference.unknown_id

    def unknown_spans(self, text: str) -> list[tuple[int, int]]:
        return self._reference.unknown_spans(text)

    def reads_otherwise(self, text: str) -> bool:
        return self._reference.reads_otherwise(text)

    def agrees_with_reference(self) -> bool:
        """Compare the two on about ten thousand texts."""
        texts = disputed_texts(sample(self._settled))
        (ids, lengths), (reference_ids, reference_lengths) = (
            self._encode_prepared(texts),
            self._reference.encode_prepared(texts),
        )
        return np.array_equal(ids, reference_ids) and np.array_equal(lengths, reference_lengths)

    def encode_batch(self, texts: Sequence[str]) -> TokenArrays:
        return self._encode_prepared(self._reference.prepared(texts))

    def _encode_prepared(self, texts: Sequence[str]) -> TokenArrays:
        doubtful = self._doubtful(texts)
        if not doubtful:
            return self._encode_fast(texts)
        settled = sorted(set(range(len(texts))).difference(doubtful))
        return _interleaved(
            len(texts),
            (settled, self._encode_fast([texts[i] for i in settled])),
            (doubtful, self._reference.encode_prepared([texts[i] for i in doubtful])),
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
            return self._reference.encode_prepared(texts)
        return ids, lengths.astype(np.int64)


@functools.lru_cache(maxsize=16)
def load_reference(file: Path) -> ReferenceTokenizer:
    """Load the reference for a `tokenizer.json`, once for each file and process.

    Raises ModelError, naming the file, if it cannot be read.
    """
    import tokenizers

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


def _valid(texts: Sequence[str]) -> list[str]:
    return [text if text.isascii() else _without_surrogates(text) for text in texts]


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
