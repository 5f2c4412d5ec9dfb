"""Reads what a page has beside its text: values of form fields, and remarks of its readers."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field

import pypdfium2.raw as pdfium

_MOST = 5000  # of a page: a hostile page has millions
_MOST_BYTES = 1 << 20
_UNCHECKED = ("", "Off")
_NOT_SHOWN = 1 << 1 | 1 << 5  # flags of an annotation: hidden, not shown on screens
_PASSWORD = 1 << 13  # flag of a text field


@dataclass(slots=True)
class Beside:
    """What a page has beside its text. `hidden`: how many fields and remarks its readers do not see."""

    shown: list[str] = field(default_factory=list)
    hidden: int = 0


def texts_of(page: pdfium.FPDF_PAGE, forms: pdfium.FPDF_FORMHANDLE | None) -> Beside:
    """Return a line for each filled field (`name: value`) and each remark of a page."""
    beside = Beside()
    for index in range(min(pdfium.FPDFPage_GetAnnotCount(page), _MOST)):
        annotation = pdfium.FPDFPage_GetAnnot(page, index)
        if not annotation:
            continue
        try:
            line = _line(annotation, forms)
            hidden = bool(line) and _is_hidden(annotation, forms)
        finally:
            pdfium.FPDFPage_CloseAnnot(annotation)
        beside.hidden += hidden
        if line and not hidden:
            beside.shown.append(line)
    return beside


def _is_hidden(annotation: pdfium.FPDF_ANNOTATION, forms: pdfium.FPDF_FORMHANDLE | None) -> bool:
    """Whether a viewer does not show it, or shows asterisks."""
    if pdfium.FPDFAnnot_GetFlags(annotation) & _NOT_SHOWN:
        return True
    if not forms or pdfium.FPDFAnnot_GetSubtype(annotation) != pdfium.FPDF_ANNOT_WIDGET:
        return False
    is_text = pdfium.FPDFAnnot_GetFormFieldType(forms, annotation) == pdfium.FPDF_FORMFIELD_TEXTFIELD
    return is_text and bool(pdfium.FPDFAnnot_GetFormFieldFlags(forms, annotation) & _PASSWORD)


def _line(annotation: pdfium.FPDF_ANNOTATION, forms: pdfium.FPDF_FORMHANDLE | None) -> str:
    kind = pdfium.FPDFAnnot_GetSubtype(annotation)
    if kind == pdfium.FPDF_ANNOT_WIDGET:
        return _field(annotation, forms) if forms else ""
    if kind in (pdfium.FPDF_ANNOT_LINK, pdfium.FPDF_ANNOT_POPUP):
        return ""
    return _string(lambda *into: pdfium.FPDFAnnot_GetStringValue(annotation, b"Contents", *into))


def _field(annotation: pdfium.FPDF_ANNOTATION, forms: pdfium.FPDF_FORMHANDLE) -> str:
    value = _chosen(annotation, forms) or _string(
        lambda *into: pdfium.FPDFAnnot_GetFormFieldValue(forms, annotation, *into)
    )
    if value in _UNCHECKED:
        return ""
    name = _string(lambda *into: pdfium.FPDFAnnot_GetFormFieldName(forms, annotation, *into))
    return f"{name}: {value}" if name else value


def _chosen(annotation: pdfium.FPDF_ANNOTATION, forms: pdfium.FPDF_FORMHANDLE) -> str:
    """What is chosen of the options of a list."""
    count = min(pdfium.FPDFAnnot_GetOptionCount(forms, annotation), _MOST)
    return ", ".join(
        _string(lambda *into, at=index: pdfium.FPDFAnnot_GetOptionLabel(forms, annotation, at, *into))
        for index in range(count)
        if pdfium.FPDFAnnot_IsOptionSelected(forms, annotation, index)
    )


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
