"""Token ids: the reference's, from the fast tokeniser wherever it can be trusted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import tokie
import wordllama

from embedfleet.chunking.tokenizers import FastTokenizer, ReferenceTokenizer, Tokenizer, load_tokenizer
from embedfleet.errors import ModelError

from .conftest import MINILM

LLAMA = Path(wordllama.__file__).parent / "tokenizers" / "l2_supercat_tokenizer_config.json"


def reference() -> ReferenceTokenizer:
    return ReferenceTokenizer(tokenizers.Tokenizer.from_file(str(MINILM)))


class Tampered:
    """tokie, with one thing about it changed."""

    def __init__(self, encode: Any) -> None:
        self._tokie = tokie.Tokenizer.from_json(str(MINILM))
        self._encode = encode

    def no_truncation(self) -> None:
        self._tokie.no_truncation()

    def no_padding(self) -> None:
        self._tokie.no_padding()

    def encode_batch_flat(self, texts: list[str], *, add_special_tokens: bool) -> Any:
        return self._encode(self._tokie, texts, add_special_tokens)


def test_ids_are_whole_without_special_tokens_though_the_file_says_truncate_and_pad(
    tokenizer: Tokenizer,
) -> None:
    ids, lengths = tokenizer.encode_batch(["word " * 300, "", "hello"])
    assert lengths.tolist() == [300, 0, 1]
    assert ids.dtype == np.uint32
    assert lengths.dtype == np.int64
    assert not {101, 102, 0} & set(ids.tolist())


def test_the_bundled_file_is_tokenised_fast_and_concatenable(tokenizer: Tokenizer) -> None:
    assert isinstance(tokenizer, FastTokenizer)
    assert tokenizer.concatenable
    assert reference().concatenable


def test_a_tokeniser_that_marks_the_beginning_of_a_text_is_not_concatenable() -> None:
    assert not load_tokenizer(LLAMA).concatenable


def test_a_file_is_loaded_once() -> None:
    assert load_tokenizer(MINILM) is load_tokenizer(MINILM)


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "tokenizer.json"
    broken.write_text('{"model": 1}')
    for file in (broken, tmp_path / "missing.json"):
        with pytest.raises(ModelError, match=str(file)) as error:
            load_tokenizer(file)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        "a\x7fb",  # DEL, which tokie does not remove
        "a\u0378b",  # unassigned
        "a\u2e56b",  # punctuation of Unicode 14
        "a" * 70_000,  # cut by tokie into parts of 64 KiB
    ],
)
def test_texts_on_which_tokie_differs_go_to_the_reference(tokenizer: Tokenizer, text: str) -> None:
    fast: Any = tokie.Tokenizer.from_json(str(MINILM))
    expected, _ = reference().encode_batch([text])
    assert fast.encode_batch_flat([text], add_special_tokens=False)[0].tolist() != expected.tolist()
    ids, lengths = tokenizer.encode_batch(["before", text, "", "after"])
    assert ids.tolist() == [*_ids("before"), *expected.tolist(), *_ids("after")]
    assert lengths.tolist() == [1, len(expected), 0, 1]


def _ids(text: str) -> list[int]:
    ids: list[int] = reference().encode_batch([text])[0].tolist()
    return ids


def test_a_lone_surrogate_counts_as_the_replacement_character(tokenizer: Tokenizer) -> None:
    for encode in (tokenizer.encode_batch, reference().encode_batch):
        assert encode(["a\ud800b"])[0].tolist() == encode(["a\ufffdb"])[0].tolist()


def test_a_difference_from_the_reference_is_found_by_the_self_check() -> None:
    def untouched(fast: Any, texts: list[str], special: bool) -> Any:
        return fast.encode_batch_flat(texts, add_special_tokens=special)

    def one_id_off(fast: Any, texts: list[str], special: bool) -> Any:
        ids, lengths = fast.encode_batch_flat(texts, add_special_tokens=special)
        return np.where(ids == 1_000, 1_001, ids), lengths

    def never_gives_up_on_a_word(fast: Any, texts: list[str], special: bool) -> Any:
        return fast.encode_batch_flat([text[:100] for text in texts], add_special_tokens=special)

    assert not FastTokenizer(Tampered(one_id_off), reference()).agrees_with_reference()
    assert not FastTokenizer(Tampered(never_gives_up_on_a_word), reference()).agrees_with_reference()
    assert FastTokenizer(Tampered(untouched), reference()).agrees_with_reference()


def test_a_panic_of_the_fast_tokeniser_costs_speed_not_the_process() -> None:
    panic = type("PanicException", (BaseException,), {})

    def panics(fast: Any, texts: list[str], special: bool) -> Any:
        raise panic("index out of bounds")

    tokenizer = FastTokenizer(Tampered(panics), reference())
    assert tokenizer.encode_batch(["hello"])[0].tolist() == _ids("hello")


def test_an_interrupt_while_tokenising_is_not_swallowed() -> None:
    def interrupted(fast: Any, texts: list[str], special: bool) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        FastTokenizer(Tampered(interrupted), reference()).encode_batch(["hello"])
