"""The chaos suite: one seeded fault a file, judged by an exhaustive oracle. Run it by `python -m chaos`.

It uses the servers and fleets of `tests/support`; nothing of it is part of the installed package.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

for _folder in ("tests", "benchmarks"):
    if str(ROOT / _folder) not in sys.path:
        sys.path.append(str(ROOT / _folder))
