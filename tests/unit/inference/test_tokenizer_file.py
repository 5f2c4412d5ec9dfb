"""Facts read from `tokenizer.json` agree with the `tokenizers` library."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from embedfleet.errors import ModelError
from embedfleet.inference.model_files import bundled_tokenizer
from embedfleet.inference.tokenizer_file import read_tokenizer

VOCABULARY = {"[UNK]": 0, "<pad>": 1, "<s>": 2, "</s>": 3, "word": 4}

POST_PROCESSORS: dict[str, Any] = {
    "none": None,
    "bert": processors.BertProcessing(("</s>", 3), ("<s>", 2)),
    "roberta": processors.RobertaProcessing(("</s>", 3), ("<s>", 2)),
    "byte level": processors.ByteLevel(),
    "template": processors.TemplateProcessing(
        single="<s> <s> $A </s>", special_tokens=[("<s>", 2), ("</s>", 3)]
    ),
    "suffix only": processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 3)]),
    "sequence": processors.Sequence(
        [
            processors.ByteLevel(),
            processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 2), ("</s>", 3)]),
        ]
    ),
}


def saved(tmp_path: Path, post_processor: Any) -> tuple[Tokenizer, Path]:
    tokenizer = Tokenizer(models.WordLevel(VOCABULARY, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if post_processor is not None:
        tokenizer.post_processor = post_processor
    path = tmp_path / "tokenizer.json"
    tokenizer.save(str(path))
    return tokenizer, path


@pytest.mark.parametrize("kind", POST_PROCESSORS)
def test_special_tokens_stand_where_the_library_puts_them(tmp_path: Path, kind: str) -> None:
    tokenizer, path = saved(tmp_path, POST_PROCESSORS[kind])
    facts = read_tokenizer(path)
    assert [*facts.prefix, VOCABULARY["word"], *facts.suffix] == tokenizer.encode("word").ids
    assert facts.special_tokens == tokenizer.num_special_tokens_to_add(False)


def test_minilm_wraps_a_text_in_cls_and_sep() -> None:
    facts = read_tokenizer(bundled_tokenizer())
    assert (facts.prefix, facts.suffix, facts.pad_id) == ((101,), (102,), 0)
    assert facts.vocabulary_size == Tokenizer.from_file(str(bundled_tokenizer())).get_vocab_size()


def test_added_tokens_belong_to_the_vocabulary(tmp_path: Path) -> None:
    tokenizer, path = saved(tmp_path, None)
    tokenizer.add_special_tokens([tokenizers.AddedToken("<new>")])
    tokenizer.save(str(path))
    assert read_tokenizer(path).vocabulary_size == len(VOCABULARY) + 1


def test_the_pad_token_is_found_by_its_name(tmp_path: Path) -> None:
    tokenizer, path = saved(tmp_path, None)
    tokenizer.add_special_tokens(["<pad>"])
    tokenizer.save(str(path))
    assert read_tokenizer(path).pad_id == VOCABULARY["<pad>"]


def test_a_unigram_vocabulary_is_a_list(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    Tokenizer(models.Unigram([("a", -1.0), ("b", -2.0)], 0)).save(str(path))
    assert read_tokenizer(path).vocabulary_size == 2


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"model": {}}', '{"model": {"vocab": {}}, "post_processor": {"type": "New"}}'],
)
def test_anything_else_is_refused_by_name(tmp_path: Path, content: str) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(content)
    with pytest.raises(ModelError, match=r"tokenizer\.json: not a Hugging Face"):
        read_tokenizer(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"tokenizer\.json: cannot be read"):
        read_tokenizer(tmp_path / "tokenizer.json")


def test_equal_content_has_equal_hashes_wherever_it_lies(tmp_path: Path) -> None:
    copy = tmp_path / "other.json"
    copy.write_bytes(bundled_tokenizer().read_bytes())
    assert read_tokenizer(copy).sha256 == read_tokenizer(bundled_tokenizer()).sha256
    changed = json.loads(copy.read_text())
    changed["truncation"] = None
    copy.write_text(json.dumps(changed))
    assert read_tokenizer(copy).sha256 != read_tokenizer(bundled_tokenizer()).sha256
