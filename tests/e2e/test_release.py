"""What `make dist` builds can be installed and used, without this checkout."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

import embedfleet
from support.command import Command
from support.hangs import HANG_SECONDS

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "embedfleet"
METADATA = f"embedfleet-{embedfleet.__version__}.dist-info"


def run(*command: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> str:
    done = subprocess.run(
        command, env=env, cwd=cwd, capture_output=True, text=True, timeout=HANG_SECONDS, check=False
    )
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


def package_files() -> list[str]:
    files = (file for file in PACKAGE.rglob("*") if file.is_file() and file.suffix != ".pyc")
    return sorted(str(file.relative_to(PACKAGE.parent)) for file in files)


def test_the_command_says_its_version(command: Command) -> None:
    assert command.typed("--version").stdout == f"embedfleet {embedfleet.__version__}\n"


def test_no_file_of_the_package_is_one_that_git_ignores() -> None:
    """The build leaves those out. The slow test below looks into the wheel itself."""
    files = [f"src/{name}" for name in package_files()]
    assert {Path(name).suffix for name in files} == {".py", ".lua", ".json", ".mako", ".typed"}
    ignored = subprocess.run(
        ["git", "check-ignore", "--no-index", *files], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if ignored.returncode == 128:
        pytest.skip("not a git checkout")
    assert ignored.stdout == ""


@pytest.mark.slow
def test_a_wheel_in_an_empty_environment_ingests_and_searches(tmp_path: Path, corpus: Path) -> None:
    """The wheel is built from the sdist. Building and installing ask the package index."""
    environment = tmp_path / "environment"
    run(sys.executable, "-m", "venv", environment)
    python = environment / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "build")
    run(python, "-m", "build", "--outdir", tmp_path / "dist", ROOT)
    assert len(list((tmp_path / "dist").glob("*.tar.gz"))) == 1
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert sorted(name for name in names if not name.startswith("embedfleet-")) == package_files()
    assert {f"{METADATA}/licenses/LICENSE", f"{METADATA}/licenses/NOTICE"} <= set(names)
    constraints = ROOT / "requirements" / "constraints.txt"
    run(python, "-m", "pip", "install", "--quiet", "--constraint", constraints, wheel)

    command = Command(tmp_path, model="minilm")
    alone = {name: value for name, value in command.environment().items() if name != "PYTHONPATH"}
    program = environment / "bin" / "embedfleet"
    assert run(program, "--version", env=alone, cwd=tmp_path) == f"embedfleet {embedfleet.__version__}\n"
    run(program, "ingest", corpus, env=alone, cwd=tmp_path)
    assert "The cat sat on the mat." in run(program, "search", "cat on a mat", env=alone, cwd=tmp_path)
