"""Maps the errors of Lance to ours."""

from __future__ import annotations

from embedfleet.errors import (
    EmbedfleetError,
    Permanent,
    Remedy,
    StorageFull,
    VectorStoreUnavailable,
    one_line,
)

# What the system says when a disk is full. Lance passes it on in its own message.
_FULL_SAYS = ("No space left on device", "Disk quota exceeded", "os error 28", "os error 122")
# What Lance calls a commit that lost against others until its retries were used up.
_CONFLICT_SAYS = ("conflict", "Too many concurrent writers")
# What says that a file has another content than Lance wrote into it.
_DAMAGE_SAYS = ("orrupt", "Invalid user input: file size is too small", "does not have a valid", "magic")


def is_conflict(exc: BaseException) -> bool:
    """Whether a commit lost against another one, so that the same call may succeed now."""
    return isinstance(exc, OSError | RuntimeError | ValueError) and any(
        hint in str(exc) for hint in _CONFLICT_SAYS
    )


def is_missing(exc: BaseException) -> bool:
    """Whether a table or one of its files was not found: another call may have removed it since."""
    return isinstance(exc, OSError | RuntimeError | ValueError) and (
        "not found" in str(exc).lower() or "No such file" in str(exc)
    )


def store_error(exc: BaseException, place: str) -> BaseException:
    """Return embedfleet's error for what a call of Lance raised. Return a defect of ours unchanged."""
    text = one_line(exc)
    if isinstance(exc, EmbedfleetError):
        return exc
    if isinstance(exc, UnicodeError):
        return Permanent(f"the vector store refuses this: {text}")
    if any(hint in text for hint in _FULL_SAYS):
        return StorageFull(f"no space left for vectors in {place}: free some, then run again ({text})")
    # Lance has no classes of its own: all that it finds wrong is one of these three.
    if not isinstance(exc, OSError | RuntimeError | ValueError) and type(exc).__name__ != "PanicException":
        return exc
    if is_conflict(exc):
        return VectorStoreUnavailable(f"the vector store in {place}: others write the same rows ({text})")
    damaged = any(hint in text for hint in _DAMAGE_SAYS)
    return VectorStoreUnavailable(
        f"the vector store in {place} failed: {text}", remedy=Remedy.REBUILD_VECTORS if damaged else None
    )
