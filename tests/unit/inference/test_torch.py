"""The torch backend on encoders of random weights, small enough to build in a test: what it refuses and how
it behaves. That its vectors are right is tested with a real model."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from embedfleet.errors import ModelError, ModelUnavailable
from embedfleet.inference.backend import EmbeddingBackend, ModelInfo, TokenBatch
from embedfleet.inference.backends.torch import tensor_core_columns
from embedfleet.inference.backends.torch_encoders import mapped_errors, resolve_device, takes_prepared_masks
from embedfleet.inference.catalogue import Catalogue
from embedfleet.inference.model_files import bundled_tokenizer
from embedfleet.settings import ModelSettings, ModelsSettings
from support.short_of_memory import embed_short_of_memory

DIM = 8
LIMIT = 32
VOCABULARY = 30_522
INFO = ModelInfo("own", DIM, LIMIT, "0" * 16, Path("tokenizer.json"), "", 0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of one layer; not to be changed."""
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=DIM,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=2 * DIM,
        max_position_embeddings=LIMIT,
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    (folder / "tokenizer.json").write_bytes(bundled_tokenizer().read_bytes())
    return folder


@pytest.fixture
def changed(folder: Path, tmp_path: Path) -> Callable[..., Path]:
    """The folder with other entries in its config."""

    def change(**config: Any) -> Path:
        for file in folder.iterdir():
            (tmp_path / file.name).symlink_to(file)
        (tmp_path / "config.json").unlink()
        said = json.loads((folder / "config.json").read_text())
        (tmp_path / "config.json").write_text(json.dumps({**said, **config}))
        return tmp_path

    return change


def catalogue(path: Path | None, *, threads: int = 1, **settings: Any) -> Catalogue:
    own = ModelSettings(**{"backend": "torch", "path": path, "devices": ("cpu",), **settings})
    return Catalogue(ModelsSettings(catalogue={"own": own}, threads=threads))


def opened(path: Path, **settings: Any) -> EmbeddingBackend:
    return catalogue(path, **settings).open("own")


def batch_of(*lengths: int) -> TokenBatch:
    ids = np.random.default_rng(0).integers(1000, 29_000, sum(lengths), dtype=np.uint32)
    return TokenBatch(ids, np.array(lengths, dtype=np.int64))


def cosines(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> NDArray[np.float32]:
    similarity: NDArray[np.float32] = (ours * theirs).sum(axis=1)
    return similarity


# --- what it gives ---------------------------------------------------------------------------------


def test_a_model_is_described_without_importing_its_library(folder: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from embedfleet.inference.catalogue import Catalogue; "
        "from embedfleet.settings import ModelSettings, ModelsSettings; "
        f"own = ModelSettings(backend='torch', path=Path({str(folder)!r})); "
        "print(Catalogue(ModelsSettings(catalogue={'own': own})).info('own').dim, "
        "{'torch', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{DIM} set()"


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_a_text_without_tokens_nor_special_ones_is_a_zero_vector_beside_its_neighbours(
    folder: Path, tmp_path: Path, pooling: str
) -> None:
    for file in folder.iterdir():
        if file.name != "tokenizer.json":
            (tmp_path / file.name).symlink_to(file)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    (tmp_path / "tokenizer.json").write_text(json.dumps({**tokenizer, "post_processor": None}))
    backend = opened(tmp_path, pooling=pooling)
    vectors = backend.embed_tokens(batch_of(0, 5))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [0, 1], rtol=1e-5)
    assert not backend.embed_tokens(batch_of(0)).any()


def test_vectors_keep_their_length_where_normalising_is_off(folder: Path) -> None:
    vectors = opened(folder, normalise=False).embed_tokens(batch_of(5, 9))
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    assert (np.abs(lengths - 1) > 0.1).all()
    np.testing.assert_allclose(vectors / lengths, opened(folder).embed_tokens(batch_of(5, 9)), rtol=1e-5)


def test_a_token_without_a_row_is_refused_though_the_tokenizer_has_it(
    changed: Callable[..., Path],
) -> None:
    """On a GPU it would take the whole process's device along."""
    from transformers import BertConfig, BertModel

    path = changed(vocab_size=2000)
    (path / "model.safetensors").unlink()
    BertModel(BertConfig.from_pretrained(path), add_pooling_layer=False).save_pretrained(path)
    batch = TokenBatch(np.array([1999, 2000], dtype=np.uint32), np.array([1, 1]))
    backend = opened(path)
    assert np.isfinite(backend.embed_tokens(batch.take(np.array([0])))).all()
    with pytest.raises(ModelError, match="token id 2000 is outside the vocabulary of 2000"):
        backend.embed_tokens(batch)


def test_each_replica_keeps_its_share_of_the_cores(folder: Path) -> None:
    """torch counts threads process-wide, until a thread has run something: the later would set both."""
    first_opened, second_opened = threading.Event(), threading.Event()
    threads: dict[str, int] = {}

    def first() -> None:
        opened(folder, threads=1)
        first_opened.set()
        assert second_opened.wait(60)
        threads["first"] = torch.get_num_threads()

    def second() -> None:
        assert first_opened.wait(60)
        opened(folder, threads=2)
        threads["second"] = torch.get_num_threads()
        second_opened.set()

    replicas = [threading.Thread(target=first), threading.Thread(target=second)]
    for replica in replicas:
        replica.start()
    for replica in replicas:
        replica.join()
    torch.set_num_threads(1)
    assert threads == {"first": 1, "second": 2}


# --- compiling -------------------------------------------------------------------------------------


@pytest.fixture
def compiling(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Anew, and in this process: the others that torch would start take longer to start than to compile."""
    import torch._inductor.config

    torch._dynamo.reset()
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    with torch._inductor.config.patch(compile_threads=1, fx_graph_cache=False):
        yield


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
def test_a_compiled_model_gives_the_same_vectors_and_is_not_compiled_again(
    folder: Path, compiling: None
) -> None:
    backend, plain = opened(folder, compile=True), opened(folder)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for lengths in ((7,), (3, 30), (1, 2, 3, 4, 5)):
            ours = backend.embed_tokens(batch_of(*lengths))
            assert cosines(ours, plain.embed_tokens(batch_of(*lengths))).min() >= 0.9999


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
def test_a_model_that_cannot_be_compiled_is_refused_when_opened(folder: Path, compiling: None) -> None:
    with (
        torch._inductor.config.patch({"cpp.cxx": ("no-such-compiler",)}),
        pytest.raises(ModelError, match="`compile: true` needs a compiler: install one") as caught,
    ):
        opened(folder, compile=True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("needed", "limit", "columns"), [(1, 512, 8), (8, 512, 8), (9, 512, 16), (511, 514, 512), (513, 514, 514)]
)
def test_gpus_are_given_multiples_of_eight_within_the_models_positions(
    needed: int, limit: int, columns: int
) -> None:
    assert tensor_core_columns(needed, limit) == columns


# --- devices ---------------------------------------------------------------------------------------


def test_auto_is_the_first_gpu_else_apples_else_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """No machine has them all: what torch says of its devices is set."""
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    assert resolve_device("auto") == ["cuda:0"]
    assert resolve_device("cuda") == ["cuda:0", "cuda:1"]
    assert [resolve_device(device) for device in ("cuda:1", "mps", "cpu")] == [["cuda:1"], ["mps"], ["cpu"]]
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    assert resolve_device("auto") == ["mps"]
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    assert resolve_device("auto") == ["cpu"]


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("cuda", "`devices: cuda`: not on this machine, which has cpu: name one"),
        ("cuda:7", "`devices: cuda:7`: not on this machine"),
        ("mps", "`devices: mps`: not on this machine"),
        ("cpu:1", "`devices: cpu:1`: not on this machine"),
        ("tpu", "`devices: tpu`: the torch backend runs on cpu, cuda, cuda:<number> and mps"),
    ],
)
def test_a_device_that_is_not_here_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, device: str, message: str
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    with pytest.raises(ModelError, match=message):
        catalogue(folder, devices=("cpu", device)).devices("own")


def test_a_device_named_twice_has_two_replicas(folder: Path) -> None:
    assert catalogue(folder, devices=("cpu", "cpu")).devices("own") == ("cpu", "cpu")


# --- what cannot be loaded -------------------------------------------------------------------------


@pytest.mark.parametrize("library", ["torch", "transformers"])
def test_a_missing_library_is_named_with_the_command_that_installs_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ModelError, match=rf"{library}.*: install the extra `torch` of embedfleet"):
        opened(folder)


def test_a_model_without_a_folder_is_refused() -> None:
    with pytest.raises(ModelError, match="no torch model is bundled: set `path`"):
        catalogue(None).info("own")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"attention": "flash_attention_2"}, "flash_attention_2` needs CUDA, not cpu"),
        ({"dim": 5}, "`dim` is set to 5, its files say 8"),
    ],
)
def test_settings_that_cannot_be_had_are_refused(
    folder: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        opened(folder, **settings)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"auto_map": {"AutoModel": "own.Model"}}, r"config\.json: needs Python code.*never run"),
        ({"auto_map": {"AutoConfig": "own.Config"}}, r"config\.json: needs Python code.*never run"),
        ({"model_type": "unheard-of"}, r"cannot be loaded \(.*unheard-of"),
        ({"num_hidden_layers": 2}, r"lacks 16 of its weights, as encoder\.layer\.1\."),
        ({"intermediate_size": 5}, "cannot be loaded"),
    ],
    ids=["remote code", "remote config", "unknown", "weights missing", "weights do not fit"],
)
def test_a_folder_that_is_not_what_it_says_is_refused_in_one_line(
    changed: Callable[..., Path], config: dict[str, Any], message: str
) -> None:
    path = changed(**config)
    with pytest.raises(ModelError, match=message) as caught:
        opened(path)
    assert "\n" not in str(caught.value)


def test_a_model_that_also_decodes_is_refused(folder: Path, tmp_path: Path) -> None:
    from transformers import T5Config, T5Model

    config = T5Config(vocab_size=100, d_model=DIM, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    T5Model(config).save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").symlink_to(folder / "tokenizer.json")
    with pytest.raises(ModelError, match="it also decodes, the torch backend runs encoders"):
        opened(tmp_path, dim=DIM)


def test_code_that_only_reads_text_is_none_of_the_models(changed: Callable[..., Path]) -> None:
    path = changed(auto_map={"AutoTokenizer": ["own.Tokenizer", None]})
    assert opened(path).embed_tokens(batch_of(3)).shape == (1, DIM)


def test_weights_that_are_no_safetensors_file_are_refused(folder: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(ModelError, match="cannot be loaded"):
        opened(tmp_path)


# --- what happens while it runs --------------------------------------------------------------------


@pytest.mark.slow  # of the ONNX runtime: test_onnx.py
@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on the address space")
def test_memory_that_runs_out_embeds_less_at_once(tmp_path: Path) -> None:
    """In a child process whose memory really ends."""
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=DIM,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=DIM,
        max_position_embeddings=256,
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes(bundled_tokenizer().read_bytes())
    entry = {"backend": "torch", "path": str(tmp_path), "devices": ["cpu"], "attention": "eager"}
    told = embed_short_of_memory(entry, texts=64, budget_tokens=1_000_000, spare_mb=20)
    assert told == "{} True True"


@pytest.mark.parametrize(
    ("raised", "error", "message"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried"), MemoryError, "model own: CUDA out of"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"), MemoryError, "ALLOC_FAILED"),
        (RuntimeError("MPS backend out of memory (MPS"), MemoryError, "MPS backend"),
        (RuntimeError("std::bad_alloc"), MemoryError, "bad_alloc"),
        (RuntimeError("CUDA error: device-side assert\ntriggered"), ModelUnavailable, "restart the worker"),
        (RuntimeError("shapes\ndiffer"), ModelError, r"model own: the model failed \(shapes differ\)"),
        (ModelError("said before"), ModelError, "^said before$"),
    ],
)
def test_what_torch_raises_is_one_of_ours(raised: Exception, error: type[Exception], message: str) -> None:
    """A GPU's errors cannot be had without one: they are raised by hand, in torch's words."""
    with pytest.raises(error, match=message) as caught, mapped_errors(INFO):
        raise raised
    assert "\n" not in str(caught.value)


def test_a_closed_backend_has_let_go_of_its_weights(folder: Path) -> None:
    import gc
    import weakref

    backend: Any = opened(folder)
    encoder = weakref.ref(backend._encoder)
    backend.close()
    gc.collect()
    assert encoder() is None


# --- masks ---

TINY = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


@pytest.mark.parametrize(
    ("kind", "config", "taken"),
    [
        ("bert", {}, True),
        ("bert", {"attn_implementation": "eager"}, False),
        # Its tokens see 16 neighbours, which a mask of ours knows nothing of.
        ("modernbert", {"local_attention": 32}, False),
    ],
    ids=["sdpa", "another kind of mask", "local attention"],
)
def test_a_mask_is_prepared_only_for_an_encoder_that_makes_the_same_of_it(
    kind: str, config: dict[str, Any], taken: bool
) -> None:
    from transformers import AutoConfig, AutoModel

    torch.manual_seed(0)
    encoder = AutoModel.from_config(AutoConfig.for_model(kind, **TINY, **config))
    assert takes_prepared_masks(encoder.eval(), 128) is taken
