"""BERT encoders of common sizes with random weights, in folders that we and sentence-transformers load."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import torch

from embedfleet.inference.model_files import bundled_tokenizer


@dataclass(frozen=True, slots=True)
class Shape:
    """Of a BERT encoder."""

    layers: int
    hidden: int
    heads: int

    @property
    def inner(self) -> int:
        return 4 * self.hidden


SHAPES = {
    "tiny": Shape(1, 32, 2),  # proves that the benchmark runs
    "minilm": Shape(6, 384, 12),  # all-MiniLM-L6, bge-micro
    "base": Shape(12, 768, 12),  # bge-base, e5-base, gte-base
    "large": Shape(24, 1024, 16),  # bge-large, e5-large, mxbai-large
}


def write_model(shape: Shape, folder: Path) -> None:
    """A folder that both sides load: sentence-transformers' layout, mean pooling, normalised, 512 tokens."""
    from sentence_transformers import SentenceTransformer, models
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    torch.manual_seed(0)
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(bundled_tokenizer()), model_max_length=512, mask_token="[MASK]", **special
    )
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=shape.inner,
    )
    raw = folder / "raw"
    BertModel(config).save_pretrained(raw)
    tokenizer.save_pretrained(raw)
    module = models.Transformer(str(raw), max_seq_length=512)
    parts = [module, models.Pooling(shape.hidden, "mean"), models.Normalize()]
    SentenceTransformer(modules=parts, device="cpu").save(str(folder / "model"))
    shutil.copy(bundled_tokenizer(), folder / "model" / "tokenizer.json")
