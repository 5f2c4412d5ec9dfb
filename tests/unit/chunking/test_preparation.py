"""What a model's tokeniser is given to read: the same text in characters that it knows."""

from __future__ import annotations

from pathlib import Path

import pytest
import tokenizers
import wordllama
from tokenizers import models, pre_tokenizers

from embedfleet.chunking.tokenizers import ReferenceTokenizer, Tokenizer, load_reference

LLAMA = Path(wordllama.__file__).parent / "tokenizers" / "l2_supercat_tokenizer_config.json"

SAME = [
    ("The oﬃce ﬂoor was ﬂooded ﬁrst, with eﬀort.", "The office floor was flooded first, with effort."),
    ("𝐁𝐨𝐥𝐝 𝑖𝑡𝑎𝑙𝑖𝑐 𝔣𝔯𝔞𝔨𝔱𝔲𝔯 𝕕𝕠𝕦𝕓𝕝𝕖 𝟙𝟚𝟛", "Bold italic fraktur double 123"),
    ("ＦＵＬＬ ｗｉｄｔｈ １２３", "FULL width 123"),
    ("cafe\u0301 Zu\u0308rich", "café Zürich"),
    ("\u1112\u1161\u11ab\u1100\u116e\u11a8", "한국"),
    ("ﻣﺮﺣﺒﺎ", "مرحبا"),
    ("ｱｲｳ", "アイウ"),
    ("Ⓗⓔⓛⓛⓞ", "Hello"),
    ("5㎏ and ㎒", "5kg and MHz"),
    ("3⅜ inch", "3 3/8 inch"),
]


@pytest.fixture(scope="module", params=["wordpiece", "metaspace-bpe"])
def any_tokenizer(request: pytest.FixtureRequest, tokenizer: Tokenizer) -> Tokenizer:
    return tokenizer if request.param == "wordpiece" else load_reference(LLAMA)


@pytest.mark.parametrize(("styled", "plain"), SAME)
def test_ligatures_styled_letters_and_separate_accents_are_read_as_plain_letters(
    any_tokenizer: Tokenizer, styled: str, plain: str
) -> None:
    (ids, _), (plain_ids, _) = any_tokenizer.encode_batch([styled]), any_tokenizer.encode_batch([plain])
    pieces = [ids.tolist(), plain_ids.tolist()]
    assert _without_blanks(any_tokenizer, pieces[0]) == _without_blanks(any_tokenizer, pieces[1])
    assert any_tokenizer.reads_otherwise(styled)
    assert not any_tokenizer.reads_otherwise(plain)


def _without_blanks(tokenizer: Tokenizer, ids: list[int]) -> list[int]:
    """A tokeniser may count the blanks that set a number apart."""
    blanks = set(tokenizer.encode_batch(["", " ", "  ", "   "])[0].tolist())
    return [token_id for token_id in ids if token_id not in blanks]


@pytest.mark.parametrize(
    "text", ["10⁵ is not 105", "x² + H₂O", "½ of it… ™ №", "，。！？", "naïve “quotes” – €5"]
)
def test_what_says_something_of_its_own_is_left_as_it_is(tokenizer: Tokenizer, text: str) -> None:
    assert not tokenizer.reads_otherwise(text)


def test_circled_numbers_stay_apart(tokenizer: Tokenizer) -> None:
    ids, plain_ids = (tokenizer.encode_batch([text])[0].tolist() for text in ("step ③④", "step 3 4"))
    assert ids == plain_ids


def test_an_unknown_symbol_takes_no_word_with_it(tokenizer: Tokenizer) -> None:
    text = "the release🚀 is out☃now"
    known = tokenizer.encode_batch(["the release is out now"])[0].tolist()
    ids = tokenizer.encode_batch([text])[0].tolist()
    assert [token_id for token_id in ids if token_id != tokenizer.unknown_id] == known
    assert [text[start:end] for start, end in tokenizer.unknown_spans(text)] == ["🚀", "☃"]


def test_unknown_text_is_found_where_it_stands(tokenizer: Tokenizer) -> None:
    text = "oﬃce 婚礼 ok ไทยa " + "x" * 101 + " Tie\u0302\u0301ng [UNK] done"
    found = [text[start:end] for start, end in tokenizer.unknown_spans(text)]
    assert found == ["婚", "礼", "ไทยa", "x" * 101]


def test_a_tokeniser_that_spells_in_bytes_has_no_unknown_text() -> None:
    llama = load_reference(LLAMA)
    assert llama.unknown_spans("婚礼邀请函 🚀") == []
    assert llama.spells_in_bytes


def test_the_unknown_token_of_each_kind_of_tokeniser_is_found(tokenizer: Tokenizer) -> None:
    unigram = tokenizers.Tokenizer(models.Unigram([("a", -1.0), ("<unk>", -9.0), ("b", -2.0)], unk_id=1))
    words = tokenizers.Tokenizer(models.WordLevel({"a": 0, "?": 1}, unk_token="?"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    bytewise = tokenizers.Tokenizer(models.BPE())
    bytewise.pre_tokenizer = pre_tokenizers.ByteLevel()
    assert tokenizer.unknown_id == 100
    assert ReferenceTokenizer(unigram).unknown_id == 1
    assert ReferenceTokenizer(unigram).unknown_spans("abxa") == [(2, 3)]
    assert ReferenceTokenizer(words).unknown_id == 1
    assert ReferenceTokenizer(words).unknown_spans("a b a") == [(2, 3)]
    assert ReferenceTokenizer(bytewise).unknown_id is None
    assert ReferenceTokenizer(bytewise).spells_in_bytes
