"""The facts about a tokenizer that a backend needs, read from `tokenizer.json` without a tokenizer
library."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedfleet.errors import ModelError

_PAD_NAMES = ("[PAD]", "<pad>")


@dataclass(frozen=True, slots=True)
class TokenizerFacts:
    """`prefix` and `suffix` are the special tokens around a text; ids lie in 0..vocabulary_size - 1."""

    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    pad_id: int
    vocabulary_size: int
    sha256: str

    @property
    def special_tokens(self) -> int:
        return len(self.prefix) + len(self.suffix)


def read_tokenizer(path: Path) -> TokenizerFacts:
    """The facts in the file. Raises ModelError if it is missing or is not a Hugging Face `tokenizer.json`."""
    try:
        content = path.read_bytes()
        document = json.loads(content)
        prefix, suffix = _special_tokens(document.get("post_processor"))
        return TokenizerFacts(
            prefix=prefix,
            suffix=suffix,
            pad_id=_pad_id(document),
            vocabulary_size=_vocabulary_size(document),
            sha256=hashlib.sha256(content).hexdigest(),
        )
    except OSError as exc:
        raise ModelError(f"{path}: cannot be read ({exc.strerror or exc})") from exc
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise ModelError(
            f"{path}: not a Hugging Face tokenizer.json ({type(exc).__name__}: {exc}): "
            "save the tokenizer again with its `save` method"
        ) from exc


def _special_tokens(processor: Mapping[str, Any] | None) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The special tokens before and after a single text, by the rules of the post-processors of
    `tokenizers`."""
    if processor is None or processor["type"] == "ByteLevel":
        return (), ()
    if processor["type"] in ("BertProcessing", "RobertaProcessing"):
        return (processor["cls"][1],), (processor["sep"][1],)
    if processor["type"] == "TemplateProcessing":
        return _around_sequence(processor)
    if processor["type"] == "Sequence":  # each member wraps the result of the member before it
        prefix: tuple[int, ...] = ()
        suffix: tuple[int, ...] = ()
        for member in processor["processors"]:
            before, after = _special_tokens(member)
            prefix, suffix = before + prefix, suffix + after
        return prefix, suffix
    raise ValueError(f"unknown post-processor {processor['type']!r}")


def _around_sequence(template: Mapping[str, Any]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    before: list[int] = []
    after: list[int] = []
    side = before
    for piece in template["single"]:
        if "Sequence" in piece:
            side = after
        else:
            side += template["special_tokens"][piece["SpecialToken"]["id"]]["ids"]
    return tuple(before), tuple(after)


def _pad_id(document: Mapping[str, Any]) -> int:
    """The id at padding; 0 if none is declared. Padding is masked out, but some models derive positions from
    its id."""
    declared = {token["content"]: int(token["id"]) for token in document.get("added_tokens", ())}
    return next((declared[name] for name in _PAD_NAMES if name in declared), 0)


def _vocabulary_size(document: Mapping[str, Any]) -> int:
    vocabulary = document["model"]["vocab"]
    highest = len(vocabulary) - 1 if isinstance(vocabulary, list) else max(vocabulary.values())
    added = (int(token["id"]) for token in document.get("added_tokens", ()))
    return max(highest, *added, -1) + 1
