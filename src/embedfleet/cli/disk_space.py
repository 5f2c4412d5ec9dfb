"""What a command says before work that needs room on the disk."""

from __future__ import annotations

from embedfleet.cli.output import confirm, warn


def warn_of_little_space(needed_bytes: int, free_bytes: int | None) -> bool:
    """Warn if less is free than the work needs, and return whether it is. None: the disk is not known."""
    if free_bytes is None or needed_bytes <= free_bytes:
        return False
    needed, free = megabytes(needed_bytes), megabytes(free_bytes)
    warn(
        f"the disk is too full: at least {needed} are needed, and {free} are free. What meets a full disk "
        "stops, submissions too: make room first"
    )
    return True


def confirm_with_space(question: str, *, needed_bytes: int, free_bytes: int | None, yes: bool) -> None:
    """Ask as `confirm` does. If less is free than the work needs, warn before, even if nothing is asked."""
    too_little = warn_of_little_space(needed_bytes, free_bytes)
    confirm(f"{question.removesuffix('?')} all the same?" if too_little else question, yes=yes)


def megabytes(size: int) -> str:
    """Return a size in megabytes, or in gigabytes."""
    return f"{size / 1e6:,.1f} MB" if size < 1e9 else f"{size / 1e9:,.1f} GB"
