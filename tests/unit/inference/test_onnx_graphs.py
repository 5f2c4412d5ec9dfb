"""A graph is optimised once, and what is kept of it never decides a vector."""

from __future__ import annotations

import stat
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from embedfleet.inference.backend import TokenBatch
from embedfleet.inference.catalogue import Catalogue
from embedfleet.settings import ModelsSettings

BATCH = TokenBatch(np.arange(1000, 1040, dtype=np.uint32), np.array([10, 30]))


def embedded(cache_dir: Path) -> NDArray[np.float32]:
    backend = Catalogue(ModelsSettings(cache_dir=cache_dir)).open("minilm")
    try:
        return backend.embed_tokens(BATCH)
    finally:
        backend.close()


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, NDArray[np.float32]]:
    """The folder after one load, and what the model said then."""
    folder = tmp_path_factory.mktemp("cache") / "models"
    return folder, embedded(folder)


def test_one_file_is_kept_and_used(kept: tuple[Path, NDArray[np.float32]]) -> None:
    folder, vectors = kept
    (file,) = folder.iterdir()
    written_at = file.stat().st_mtime_ns
    assert embedded(folder).tobytes() == vectors.tobytes()
    assert [one.stat().st_mtime_ns for one in folder.iterdir()] == [written_at]


@pytest.mark.parametrize("damage", [lambda content: b"", lambda content: content[: len(content) // 2]])
def test_a_damaged_file_is_made_anew(
    kept: tuple[Path, NDArray[np.float32]], tmp_path: Path, damage: object
) -> None:
    folder, vectors = kept
    (file,) = folder.iterdir()
    copy = tmp_path / file.name
    copy.write_bytes(damage(file.read_bytes()))  # type: ignore[operator]
    assert embedded(tmp_path).tobytes() == vectors.tobytes()
    assert copy.stat().st_size == file.stat().st_size
    assert list(tmp_path.iterdir()) == [copy]


def test_where_nothing_can_be_written_the_model_is_loaded_all_the_same(
    kept: tuple[Path, NDArray[np.float32]], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    assert embedded(tmp_path / "file" / "models").tobytes() == kept[1].tobytes()


def test_a_folder_that_may_not_be_written_is_left_alone(
    kept: tuple[Path, NDArray[np.float32]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    monkeypatch.setattr(
        "embedfleet.inference.backends.onnx_graphs.os.access", lambda path, mode: False
    )  # root may
    assert embedded(tmp_path).tobytes() == kept[1].tobytes()
    tmp_path.chmod(stat.S_IRWXU)
    assert list(tmp_path.iterdir()) == []
