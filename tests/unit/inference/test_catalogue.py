"""What the catalogue says of a model before anything is loaded."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from embedfleet.errors import ModelError, UnknownModel
from embedfleet.inference.catalogue import Catalogue
from embedfleet.inference.model_files import bundled_tokenizer
from embedfleet.settings import ModelSettings, ModelsSettings

SPACES = {"minilm": "c82cd170fbc8ccfa", "static": "96f331d67e643c7f", "stub": "d0cd2ed7d7aba3d0"}


def catalogue(**models: ModelSettings) -> Catalogue:
    return Catalogue(ModelsSettings(catalogue=models))


def onnx_folder(folder: Path, weights: bytes = b"weights", **files: Any) -> Path:
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(weights)
    shutil.copy(bundled_tokenizer(), folder / "tokenizer.json")
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def space_of(**settings: Any) -> str:
    return catalogue(own=ModelSettings(**{"backend": "onnx", "dim": 8, **settings})).info("own").space


def test_the_bundled_models_and_ones_own_are_listed() -> None:
    assert catalogue(own=ModelSettings(backend="stub")).names() == ["minilm", "own", "static", "stub"]


@pytest.mark.parametrize(
    ("name", "dim", "max_tokens"), [("minilm", 384, 254), ("static", 256, 512), ("stub", 64, 256)]
)
def test_bundled_models_are_what_their_authors_say(name: str, dim: int, max_tokens: int) -> None:
    info = catalogue().info(name)
    assert (info.name, info.dim, info.max_tokens) == (name, dim, max_tokens)
    assert info.tokenizer_file.is_file()


def test_an_unknown_model_is_refused_with_the_nearest_known() -> None:
    with pytest.raises(UnknownModel, match=r"no model `minilmm` .* did you mean `minilm`\?"):
        catalogue().info("minilmm")
    with pytest.raises(UnknownModel, match="known are: minilm, static, stub"):
        catalogue().open("zzz")


def test_describing_a_model_imports_no_model_library() -> None:
    """The command line lists models in well under half a second."""
    program = (
        "import sys; from embedfleet.inference.catalogue import Catalogue; "
        "from embedfleet.settings import ModelsSettings; c = Catalogue(ModelsSettings()); "
        "[c.info(name) for name in c.names()]; "
        "print(sorted({'onnxruntime', 'model2vec', 'wordllama', 'torch', 'tokenizers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- the space -------------------------------------------------------------------------------------


def test_the_same_files_in_another_folder_under_another_name_are_the_same_space(tmp_path: Path) -> None:
    here, there = onnx_folder(tmp_path / "a"), onnx_folder(tmp_path / "b" / "c")
    models = catalogue(
        one=ModelSettings(backend="onnx", path=here, dim=8),
        two=ModelSettings(backend="onnx", path=there, dim=8),
    )
    assert models.info("one").space == models.info("two").space


def test_other_weights_pooling_or_tokenizer_are_another_space(tmp_path: Path) -> None:
    path = onnx_folder(tmp_path / "a")
    spaces = {space_of(path=path), space_of(path=path, pooling="cls"), space_of(path=path, normalise=False)}
    spaces.add(space_of(path=onnx_folder(tmp_path / "b", weights=b"retrained")))
    other_tokenizer = onnx_folder(tmp_path / "c")
    with (other_tokenizer / "tokenizer.json").open("a") as file:
        file.write("\n")
    spaces.add(space_of(path=other_tokenizer))
    assert len(spaces) == 5


def test_weights_beside_the_graph_count_as_weights(tmp_path: Path) -> None:
    path = onnx_folder(tmp_path / "a")
    alone = space_of(path=path)
    (path / "model.onnx.data").write_bytes(b"the tensors")
    assert space_of(path=path) != alone


def test_limits_and_names_do_not_change_a_vector_nor_the_space(tmp_path: Path) -> None:
    path = onnx_folder(tmp_path / "a")
    assert space_of(path=path) == space_of(path=path, max_tokens=64, description="mine")


def test_the_bundled_spaces_are_those_of_earlier_releases() -> None:
    """A change here orphans every stored vector of the model: it needs a migration, not a new digest."""
    models = catalogue()
    assert {name: models.info(name).space for name in models.names()} == SPACES


def test_the_spaces_of_remote_models_are_those_of_earlier_releases() -> None:
    far = ModelSettings.model_validate(
        {"backend": "remote", "dim": 8, "remote": {"url": "http://h/v1", "model": "m"}}
    )
    assert catalogue(far=far).info("far").space == "8ff380f3b32f0696"


# --- models of one's own ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "settings", "max_tokens"),
    [
        ({}, {}, 256 - 2),
        ({"sentence_bert_config": {"max_seq_length": 384}}, {}, 384 - 2),
        ({"config": {"max_position_embeddings": 512}}, {}, 512 - 2),
        (
            {
                "sentence_bert_config": {"max_seq_length": 128},
                "config": {"max_position_embeddings": 512},
            },
            {},
            128 - 2,
        ),
        ({"tokenizer_config": {"model_max_length": 128}}, {}, 128 - 2),
        (
            {
                "sentence_bert_config": {"max_seq_length": 384},
                "tokenizer_config": {"model_max_length": 128},
            },
            {},
            384 - 2,
        ),
        (
            {
                "tokenizer_config": {"model_max_length": 10**30},
                "config": {"max_position_embeddings": 512},
            },
            {},
            512 - 2,
        ),
        ({"sentence_bert_config": {"max_seq_length": 384}}, {"max_tokens": 100}, 100 - 2),
        ({"config": {"max_position_embeddings": 512}}, {"max_tokens": 4096}, 512 - 2),
    ],
    ids=[
        "nothing said",
        "sentence config",
        "positions",
        "both",
        "tokenizer",
        "sentence config before tokenizer",
        "tokenizer without a limit",
        "settings lower",
        "settings too high",
    ],
)
def test_the_limit_comes_from_the_settings_else_the_files_and_never_passes_the_positions(
    tmp_path: Path, files: dict[str, Any], settings: dict[str, Any], max_tokens: int
) -> None:
    path = onnx_folder(tmp_path / "a", **files)
    own = ModelSettings(backend="onnx", path=path, dim=8, **settings)
    assert catalogue(own=own).info("own").max_tokens == max_tokens


def test_the_dimension_is_read_from_the_config(tmp_path: Path) -> None:
    path = onnx_folder(tmp_path / "a", config={"hidden_size": 768})
    assert catalogue(own=ModelSettings(backend="onnx", path=path)).info("own").dim == 768


@pytest.mark.parametrize(
    ("files", "settings", "message"),
    [
        ({}, {}, "model `own`: dimension unknown: set `dim`"),
        ({"config": {"hidden_size": 768}}, {"dim": 384}, "`dim` is set to 384, its files say 768"),
        ({"config": [1]}, {}, r"config\.json: must hold a JSON object, not a list"),
    ],
)
def test_what_cannot_be_right_is_refused_in_one_line(
    tmp_path: Path, files: dict[str, Any], settings: dict[str, Any], message: str
) -> None:
    path = onnx_folder(tmp_path / "a", **files)
    with pytest.raises(ModelError, match=message) as caught:
        catalogue(own=ModelSettings(backend="onnx", path=path, **settings)).info("own")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("declared", "pooling"),
    [
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, "mean"),
        ({"pooling_mode_lasttoken": True}, "last"),
        ({"pooling_mode": "cls"}, "cls"),
        ({"pooling_mode": ["lasttoken"], "include_prompt": True}, "last"),
    ],
)
def test_how_a_folder_says_that_it_pools_is_read(
    tmp_path: Path, declared: dict[str, Any], pooling: str
) -> None:
    path = onnx_folder(tmp_path / "a")
    (path / "1_Pooling").mkdir()
    (path / "1_Pooling" / "config.json").write_text(json.dumps(declared))
    own = ModelSettings(backend="onnx", path=path, dim=8)
    assert catalogue(own=own).describe("own").pooling == pooling


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"pooling_mode": "weightedmean"}, "pools by weightedmean: not supported"),
        ({"pooling_mode": ["cls", "mean"]}, "pools by cls, mean: not supported"),
        ({"pooling_mode_max_tokens": True}, "pools by pooling_mode_max_tokens: not supported"),
        ({"pooling_mode": "mean", "include_prompt": False}, "leaves the prompt out"),
    ],
)
def test_pooling_of_another_kind_is_refused_not_replaced(
    tmp_path: Path, declared: dict[str, Any], message: str
) -> None:
    path = onnx_folder(tmp_path / "a")
    (path / "1_Pooling").mkdir()
    (path / "1_Pooling" / "config.json").write_text(json.dumps(declared))
    with pytest.raises(ModelError, match=message):
        space_of(path=path)


@pytest.mark.parametrize("kind", ["sentence_transformers.models.Dense", "custom_st.Transformer"])
def test_a_module_that_would_be_left_out_is_refused(tmp_path: Path, kind: str) -> None:
    path = onnx_folder(tmp_path / "a", modules=[{"type": kind}])
    with pytest.raises(ModelError, match=f"has a module `{kind}`"):
        space_of(path=path)


@pytest.mark.parametrize("missing", ["model.onnx", "tokenizer.json"])
def test_a_missing_file_is_named(tmp_path: Path, missing: str) -> None:
    path = onnx_folder(tmp_path / "a")
    (path / missing).unlink()
    with pytest.raises(ModelError, match=f"{missing}: missing"):
        space_of(path=path)


def test_pooling_is_refused_where_nothing_is_pooled() -> None:
    with pytest.raises(ModelError, match="`pooling: cls`: the stub backend pools by itself"):
        catalogue(own=ModelSettings(backend="stub", pooling="cls")).info("own")


def test_a_file_that_is_no_model_is_a_model_error_when_opened(tmp_path: Path) -> None:
    own = ModelSettings(backend="onnx", path=onnx_folder(tmp_path / "a"), dim=8)
    with pytest.raises(ModelError, match=r"model own: .*model\.onnx cannot be loaded"):
        catalogue(own=own).open("own")


def test_a_table_that_is_no_safetensors_file_is_refused(tmp_path: Path) -> None:
    path = onnx_folder(tmp_path / "a", config={})
    (path / "model.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(ModelError, match=r"model\.safetensors: not a safetensors file"):
        catalogue(own=ModelSettings(backend="static", path=path)).info("own")


def test_a_missing_extra_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("embedfleet.inference.model_files.find_spec", lambda package: None)
    with pytest.raises(
        ModelError, match=r"wordllama` is not installed: install the extra `static` of embedfleet"
    ):
        catalogue().info("static")
