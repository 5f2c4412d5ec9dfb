"""Reads a form with one file, `multipart/form-data`, piece by piece. The file goes on as it comes in.

Starlette's reader keeps up to a thousand files and fields, and gives the file no path. Here is one file,
and every size is counted before anything is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from embedfleet.errors import InvalidRequest

# The fields of an upload are a dozen; the largest is metadata, which may have 8 KB.
_MOST_FIELDS = 32
_MOST_FIELD_BYTES = 64 * 1024


class FormReader:
    """Takes the body of a form. `fields` are its values by name, and `file_name` is what the file is called.

    Raises InvalidRequest for a form that is broken, has too many or too large fields, or several files.
    """

    def __init__(self, content_type: str, take_file: Callable[[bytes], None]) -> None:
        """`take_file` is called with each piece of the file, in order."""
        self.fields: dict[str, str] = {}
        self.file_name: str | None = None
        self._take_file = take_file
        self._header_name = self._header_value = b""
        self._disposition = b""
        self._field: str | None = None
        self._value = bytearray()
        self._complete = False
        _, options = parse_options_header(content_type)
        boundary = options.get(b"boundary")
        if not boundary:
            raise InvalidRequest("Content-Type: the form has no boundary: have the client library set it")
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin_part,
                    "on_header_field": self._add_header_name,
                    "on_header_value": self._add_header_value,
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._end_headers,
                    "on_part_data": self._add_data,
                    "on_part_end": self._end_part,
                    "on_end": self._end,
                },
            )
        except FormParserError as exc:
            raise _broken(exc) from exc

    def feed(self, data: bytes) -> None:
        """Take the next piece of the body."""
        try:
            self._parser.write(data)
        except FormParserError as exc:
            raise _broken(exc) from exc

    def end(self) -> None:
        """The body is complete. Raises InvalidRequest if the form is not, or has no file."""
        if not self._complete:
            raise InvalidRequest("the form ends before its last boundary: send all of it")
        if self.file_name is None:
            raise InvalidRequest("file: is missing: send the file as a part with a file name", field="file")

    def _begin_part(self) -> None:
        self._disposition = b""
        self._value.clear()

    def _add_header_name(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _add_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _end_header(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = self._header_value
        self._header_name = self._header_value = b""

    def _end_headers(self) -> None:
        _, options = parse_options_header(self._disposition)
        if b"filename" in options:
            if self.file_name is not None:
                raise InvalidRequest("the form has several files: send one in each request", field="file")
            self._field = None
            self.file_name = _text(options[b"filename"])
            return
        name = _text(options.get(b"name", b""))
        if not name:
            raise InvalidRequest("a part of the form has no name: name every field")
        if len(self.fields) == _MOST_FIELDS or name in self.fields:
            raise InvalidRequest(
                f"the form has more than {_MOST_FIELDS} fields, or one twice: send each field once"
            )
        self._field = name

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        if self._field is None:
            self._take_file(data[start:end])
            return
        if len(self._value) + end - start > _MOST_FIELD_BYTES:
            raise InvalidRequest(
                f"{self._field}: has more than {_MOST_FIELD_BYTES} bytes: send a large text as the file",
                field=self._field,
            )
        self._value += data[start:end]

    def _end_part(self) -> None:
        if self._field is not None:
            self.fields[self._field] = _text(bytes(self._value))

    def _end(self) -> None:
        self._complete = True


def texts_of(fields: Mapping[str, str]) -> dict[str, str]:
    """Return the fields that have a value: a form on a page sends empty ones too."""
    return {name: value for name, value in fields.items() if value}


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as exc:
        raise InvalidRequest("the form has a name or a value that is not UTF-8: encode it") from exc


def _broken(exc: FormParserError) -> InvalidRequest:
    return InvalidRequest(f"the body is not the form that its Content-Type says ({exc}): send it again")
