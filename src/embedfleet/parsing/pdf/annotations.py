"""Reads what a page has beside its text: values of form fields, and remarks of its readers."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator

import pypdfium2.raw as pdfium

_MOST = 5000  # of a page: a hostile page has millions
_MOST_BYTES = 1 << 20
_UNCHECKED = ("", "Off")


def texts_of(page: pdfium.FPDF_PAGE, forms: pdfium.FPDF_FORMHANDLE | None) -> Iterator[str]:
    """Yield a line for each filled field (`name: value`) and each remark of a page."""
    for index in range(min(pdfium.FPDFPage_GetAnnotCount(page), _MOST)):
        annotation = pdfium.FPDFPage_GetAnnot(page, index)
        if not annotation:
            continue
        try:
            line = _line(annotation, forms)
        finally:
            pdfium.FPDFPage_CloseAnnot(annotation)
        if line:
            yield line


def _line(annotation: pdfium.FPDF_ANNOTATION, forms: pdfium.FPDF_FORMHANDLE | None) -> str:
    kind = pdfium.FPDFAnnot_GetSubtype(annotation)
    if kind == pdfium.FPDF_ANNOT_WIDGET:
        return _field(annotation, forms) if forms else ""
    if kind in (pdfium.FPDF_ANNOT_LINK, pdfium.FPDF_ANNOT_POPUP):
        return ""
    return _string(lambda *into: pdfium.FPDFAnnot_GetStringValue(annotation, b"Contents", *into))


def _field(annotation: pdfium.FPDF_ANNOTATION, forms: pdfium.FPDF_FORMHANDLE) -> str:
    value = _string(lambda *into: pdfium.FPDFAnnot_GetFormFieldValue(forms, annotation, *into))
    if value in _UNCHECKED:
        return ""
    name = _string(lambda *into: pdfium.FPDFAnnot_GetFormFieldName(forms, annotation, *into))
    return f"{name}: {value}" if name else value


def _string(read: object) -> str:
    """The UTF-16 string that a function of PDFium gives, in one line."""
    assert callable(read)
    size = min(read(None, 0), _MOST_BYTES)
    if size <= 2:
        return ""
    buffer = (ctypes.c_ushort * (size // 2 + 1))()
    read(ctypes.cast(buffer, ctypes.POINTER(ctypes.c_ushort)), size)
    text = bytes(buffer)[: size - 2].decode("utf-16-le", "replace")
    return " ".join(text.replace("\0", "").split())
