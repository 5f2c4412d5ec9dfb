"""Files that other processes see whole or not at all, however the process that writes them ends."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4


@contextmanager
def written_whole(target: Path) -> Iterator[Path]:
    """Yield a path beside `target` for the new file, which replaces `target` in one step at the block's end.

    If the block raises, `target` stays as it was, and what was written is deleted. The folder must exist. To
    keep the new file through a power cut, call `os.fsync` on it in the block. Raises OSError if it cannot be
    renamed, or if `target` is a folder or a device: a rename would put a file in the place of /dev/null.
    """
    if target.exists() and not target.is_file():
        raise OSError(errno.EINVAL, "it is no regular file", str(target))
    # A name of its own: processes that write the same target at once do not write into one draft. It is in
    # the same folder, so on the same file system, where a rename is one step.
    draft = target.with_name(f".{target.name}.{uuid4().hex}.tmp")
    try:
        yield draft
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
