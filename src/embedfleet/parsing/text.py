"""Reads plain text, Markdown and source code without changing them."""

from __future__ import annotations

from typing import BinaryIO

from embedfleet.parsing.decoding import decode, find_encoding
from embedfleet.parsing.draft import Draft


def read_text(stream: BinaryIO, draft: Draft) -> None:
    """Write the file unchanged, except for the ends of lines. Holds one block in memory."""
    decode(stream, find_encoding(stream), draft.write, draft.account)


def whole_text(stream: BinaryIO, draft: Draft, *, declared: str | None = None) -> str:
    """The whole text of the file. Nothing is written to the draft but what decoding adds to its account.

    `declared`: the codec that something outside of the file declares; None: what the file itself declares.
    """
    pieces: list[str] = []
    decode(stream, find_encoding(stream, declared=declared), pieces.append, draft.account)
    return "".join(pieces)
