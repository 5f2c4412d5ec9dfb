"""`--help` answers at once."""

from __future__ import annotations

import subprocess
import sys

_HEAVY = "chromadb onnxruntime sqlalchemy pydantic numpy"


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys; sys.argv = ['embedfleet', '--help']\n"
        "from embedfleet.cli import main\n"
        "try: main()\n"
        f"finally: print([m for m in '{_HEAVY}'.split() if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"
    assert "ingest" in done.stdout
