"""Loads the PDF library that is packed inside of kreuzberg.

kreuzberg writes the library to a fixed path below the temporary folder and loads it from there. In a shared
folder, any user of the machine could put another library at that path first. So this module gives kreuzberg a
private folder, and removes it as soon as the library is loaded.
"""

from __future__ import annotations

import functools
import os
import tempfile

from embedfleet.parsing.confinement import writable_files
from embedfleet.parsing.conversion import convert

_EMPTY_PDF = b"""%PDF-1.4
1 0 obj
<< /Type /Catalog /Pages 2 0 R >>
endobj
2 0 obj
<< /Type /Pages /Kids [3 0 R] /Count 1 >>
endobj
3 0 obj
<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] >>
endobj
trailer
<< /Size 4 /Root 1 0 R >>
%%EOF
"""


@functools.cache
def load_pdfium() -> None:
    """Load the library once in a process, by converting an empty document."""
    with writable_files(), tempfile.TemporaryDirectory(prefix="embedfleet-pdfium-") as folder:
        os.environ["TMPDIR"] = folder
        convert(_EMPTY_PDF, "application/pdf")
