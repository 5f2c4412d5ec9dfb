"""Mailboxes (.mbox): the messages one after the other. A message that cannot be read costs only itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO

from embedfleet.account_codes import Code
from embedfleet.errors import ParseError
from embedfleet.parsing.draft import Draft
from embedfleet.parsing.formats import ContentType
from embedfleet.parsing.mail.message import parsed, write_message

# "From ann@example.org Fri Jan  2 10:00:00 2026". A sentence that begins with "From" has no such time.
FROM_LINE = re.compile(rb"From \S.{0,200}\d{1,2}:\d\d(?::\d\d)?.{0,40}\r?\n?")
_QUOTED_FROM = re.compile(rb"^>(>*From )", re.MULTILINE)


def read_mailbox(stream: BinaryIO, draft: Draft) -> ContentType:
    """Write the messages. Holds one message in memory."""
    count = 0
    for count, data in enumerate(_messages(stream), 1):
        try:
            write_message(parsed(data), draft, heading="")
        except ParseError as exc:
            reason = str(exc).partition(":")[0]
            draft.note(Code.MAIL_MESSAGE, chars=None, place=f"message {count} {reason}")
        draft.write("\n")
    if not count:
        raise ParseError("is not a mailbox (no message begins in it): give a single message the suffix .eml")
    return "markdown"


def _messages(stream: BinaryIO) -> Iterator[bytes]:
    lines: list[bytes] = []
    begun, after_blank = False, True
    for line in stream:
        if after_blank and FROM_LINE.fullmatch(line):
            if begun:
                yield _unquoted(lines)
            lines, begun = [], True
        elif begun:
            lines.append(line)
        elif line.strip():
            return
        after_blank = not line.strip()
    if begun:
        yield _unquoted(lines)


def _unquoted(lines: list[bytes]) -> bytes:
    return _QUOTED_FROM.sub(rb"\1", b"".join(lines))
