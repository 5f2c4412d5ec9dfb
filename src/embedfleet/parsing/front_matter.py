"""Front matter: the block of metadata at the top of a Markdown page, in YAML, TOML or JSON.

Its names and values become lines of `name: value`; its comments are left out. It is read line by line and not
as YAML: pages hold templates and mistakes that no YAML reader takes, and aliases can make a text explode.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from embedfleet.parsing.json_layout import lay_out, unescaped

_YAML, _TOML = "---", "+++"
_ENDS = {
    _YAML: re.compile(r"^(?:---|\.\.\.)[ \t]*$", re.MULTILINE),
    _TOML: re.compile(r"^\+\+\+[ \t]*$", re.M),
}
_NAME = re.compile(r"""(?:[\w$@./-]+(?:[ ][\w$@./-]+){0,3}|"[^"]*"|'[^']*'|<<)\s?[:=](?:\s|$)""")
_PART_OF_VALUE = re.compile(r"[ \t]|-[ \t\n]|-$|[\]})\[{]|#|$")
_MOST_ODD_SHARE = 5
"""One line in five may be no YAML: a value that a template or a mistake has broken over lines."""
_NAMED = re.compile(r"([ \t]*(?:-[ \t]+)?)([^:=\n]*?)[ \t]*[:=](?:[ \t]+|$)(.*)")
_BLOCK = re.compile(r"(?:[|>][+-]?\d?[+-]?|\"\"\"|''')[ \t]*(?:#.*)?$")
_TRAILING_COMMENT = re.compile(r"(?:^|[ \t])#.*$")
_TITLE = re.compile(r"^title:[ \t]*(?:\n[ \t]*)?(\S[^\n]*)", re.MULTILINE | re.IGNORECASE)
_JSON_END = re.compile(r"^\}[ \t]*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class FrontMatter:
    """Front matter as lines of text, and where it ends in the file."""

    lines: str
    end: int
    comments: int = 0
    comment_chars: int = 0

    @property
    def title(self) -> str | None:
        """What the page calls itself."""
        found = _TITLE.search(self.lines)
        return found[1].strip() if found else None


def front_matter_of(text: str) -> FrontMatter | None:
    """Return the front matter at the beginning of a page, of any length; None if it has none."""
    first = text[: text.find("\n") + 1].rstrip()
    start = text.find("\n") + 1
    if first in _ENDS and (closing := _ENDS[first].search(text, start)):
        source = text[start : closing.start()]
        if first == _TOML or _is_yaml(source):
            return _read(source, closing.end())
    if first == "{" and (closing := _JSON_END.search(text, start)):
        return FrontMatter(lay_out(text[: closing.end()]), closing.end())
    return None


def _is_yaml(source: str) -> bool:
    """Whether text between two lines of dashes is metadata, and not a page between two rules."""
    lines = [line for line in source.split("\n") if line.strip()]
    names = sum(_NAME.match(line) is not None for line in lines)
    odd = sum(_NAME.match(line) is None and _PART_OF_VALUE.match(line) is None for line in lines)
    first_is_name = bool(lines) and (_NAME.match(lines[0]) or lines[0].startswith("#"))
    return not lines or (bool(first_is_name) and names > 0 and odd * _MOST_ODD_SHARE <= len(lines))


def _read(source: str, end: int) -> FrontMatter:
    written: list[str] = []
    comments = chars = 0
    block_indent: int | None = None
    quotes = ""
    for line in source.split("\n"):
        content = line.strip()
        indent = len(line) - len(line.lstrip())
        if quotes:
            # TOML: a text of several lines ends with its quotes, and not with its indentation.
            written.append(content.removesuffix(quotes).lstrip("#").strip())
            quotes = "" if content.endswith(quotes) else quotes
            continue
        if block_indent is not None and content and indent <= block_indent:
            block_indent = None
        if block_indent is not None:
            # A `#` in a text of several lines is no comment; and no heading of the page.
            written.append(line[:indent] + content.lstrip("#").strip() if content[:1] == "#" else line)
        elif content.startswith("#"):
            comments += 1
            chars += len("".join(content.split()))
        elif content:
            written.append(_written(line))
            if opening := _BLOCK.search(content):
                quotes = opening[0][:3] if opening[0][0] in "\"'" else ""
                block_indent = None if quotes else indent
    return FrontMatter("\n".join(written).strip("\n") + "\n", end, comments, chars)


def _written(line: str) -> str:
    """A line as `name: value`, without quotes and the signs of YAML and TOML."""
    named = _NAMED.fullmatch(line)
    if named is None:
        item = re.fullmatch(r"([ \t]*-[ \t]+)(.*)", line)
        return item[1] + _value(item[2]) if item else line
    return f"{named[1]}{named[2].strip(chr(34) + chr(39))}: {_value(named[3])}".rstrip()


def _value(written: str) -> str:
    value = written.strip()
    if _BLOCK.match(value):
        return ""
    quoted = re.match(r"""("(?:[^"\\]|\\.)*"|'(?:[^']|'')*')[ \t]*(?:#.*)?$""", value)
    if quoted is None:
        value = _TRAILING_COMMENT.sub("", value).strip()
        if value[:1] == "[" and value[-1:] == "]":
            return ", ".join(_value(item) for item in value[1:-1].split(",")) if len(value) > 2 else ""
        return value
    text = quoted[1]
    return unescaped(text[1:-1]) if text[0] == '"' else text[1:-1].replace("''", "'")
