"""Makes the context of a chunk: what stands above its text, and is embedded before it.

A chunk often lacks its own subject, which stands only in the title of the document, in a heading or in the
header row of a table. The context has these, so that the chunk's vector knows them. It is no part of the
chunk's text.
"""

from __future__ import annotations

import re
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray

from embedfleet.chunking.lines import Above
from embedfleet.chunking.tokenizers import Tokenizer

_SEPARATOR = " > "
_TITLE_CHARS = 512
"""A longer title is text: no page is called so."""

_CONTEXT_SHARE = 2
"""The context takes at most half of the tokens that the model takes, and the header row of a table a quarter.
The rest is for the text."""

_MOST_MARKS = 16
"""How many characters such as `#` and `*` may stand before the title at the beginning of a text."""

_MOST_KNOWN = 1024
"""Bounds the memory for a document with very many headings."""

_WORD = re.compile(r"\w+")


class ContextMaker:
    """Makes the contexts of one document's chunks.

    `title`: what the document calls itself, "" if it does not say. `max_tokens`: what the model takes.
    """

    def __init__(self, tokenizer: Tokenizer, title: str, max_tokens: int) -> None:
        self.title = " ".join(title[:_TITLE_CHARS].split())
        self._tokenizer = tokenizer
        self.max_tokens = max_tokens
        self._most = max_tokens // _CONTEXT_SHARE
        self._known: dict[str, NDArray[np.uint32]] = {}
        self._contexts: dict[tuple[str, Above], str] = {}

    def context(self, above: Above, text: str, *, room: int) -> str:
        """Return the context of a chunk of this text, of at most `room` tokens; "" for nothing to say.

        It ends with a line break. The embedded text is the context, and then the text. A title or heading
        that repeats another one, and a title with which the text begins, are left out.
        """
        title = "" if self._begins_with_title(text) else self.title
        context = self._full(title, above)
        return context if self.count(context) <= room else self._made(title, above, min(room, self._most))

    def most_tokens(self, above: Above) -> int:
        """Return how many tokens a context can have with this above the text, whatever the text is."""
        return self.count(self._full(self.title, above))

    def before(
        self, context: str, text: str, token_ids: NDArray[np.uint32]
    ) -> tuple[str, NDArray[np.uint32]]:
        """Return the context and the tokens of what is embedded; `token_ids` are those of the text alone.

        Without the context if both together have more tokens than the model takes.
        """
        if not context:
            return "", token_ids
        if self._tokenizer.concatenable:
            joined = np.concatenate((self.token_ids(context), token_ids))
        else:
            joined = self._tokenizer.encode_batch([context + text])[0]
        return (context, joined) if len(joined) <= self.max_tokens else ("", token_ids)

    def token_ids(self, text: str) -> NDArray[np.uint32]:
        """Return the tokens of a context: uint32 (n,)."""
        if text not in self._known:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[text] = self._tokenizer.encode_batch([text])[0]
        return self._known[text]

    def count(self, text: str) -> int:
        """Return how many tokens a context has."""
        return len(self.token_ids(text)) if text else 0

    def _full(self, title: str, above: Above) -> str:
        """The context where there is room for all that one may have. It is made once, as chunks share it."""
        key = (title, above)
        if key not in self._contexts:
            if len(self._contexts) >= _MOST_KNOWN:
                self._contexts.clear()
            self._contexts[key] = self._made(title, above, self._most)
        return self._contexts[key]

    def _made(self, title: str, above: Above, budget: int) -> str:
        table = self._shortened(above.table_header, "\n", min(budget, self._most // 2))
        line = self._title_line(title, above.headings, budget - self.count(table))
        # It is stored as it is embedded, and PostgreSQL cannot store a NUL.
        return (line + table).replace("\0", "\ufffd")

    def _title_line(self, title: str, headings: tuple[str, ...], budget: int) -> str:
        """The title and the headings in one line. If they are too many, the outermost headings go first."""
        parts = _distinct(title, headings)
        while len(parts) > 2 and self.count(_SEPARATOR.join(parts) + "\n\n") > budget:
            del parts[1]
        return self._shortened(_SEPARATOR.join(parts), "\n\n", budget)

    def _shortened(self, text: str, end: str, budget: int) -> str:
        """The beginning of the text that has at most `budget` tokens, cut after a word, and then the end."""
        while text and (tokens := self.count(text + end)) > budget:
            text = text[: len(text) * max(budget, 0) // tokens].rpartition(" ")[0].rstrip(" >|")
        return text + end if text else ""

    def _begins_with_title(self, text: str) -> bool:
        # Marks and white space stand between the words, but rarely more of them than letters.
        beginning = text[: 2 * len(self.title) + _MOST_MARKS]
        return _words(beginning).startswith(_words(self.title))


def _distinct(title: str, headings: tuple[str, ...]) -> list[str]:
    parts = [part for part in headings if part]
    if _is_in(title, " ".join(parts)):
        return parts
    # A title such as "git-log - Git Documentation" says what the heading "git-log" says.
    return [title, *(part for part in parts if not _is_in(part, title))]


def shared_headings(above: tuple[str, ...], within: tuple[str, ...]) -> tuple[str, ...]:
    """The headings that stand above a chunk's beginning and also above its new text.

    The others of `within`, the heading path of the new text, are in the text of the chunk.
    """
    pairs = takewhile(lambda pair: pair[0] == pair[1], zip(above, within, strict=False))
    return tuple(heading for heading, _ in pairs)


def _is_in(part: str, whole: str) -> bool:
    """Whether the words of `part` are among those of `whole`, one after the other."""
    return _words(part) in _words(whole)


def _words(text: str) -> str:
    """The words without punctuation and case, each with a blank before and after it; " " for none."""
    return " ".join(["", *_WORD.findall(text.casefold()), ""])
