"""Makes jobs from files: finds files, skips unchanged ones, and submits the others.

One bad file never stops the others: an error of a file is an outcome, not an exception.

May import: workers, job_manager, traffic, experiments and below.
"""

from embedfleet.ingest.files import Found, find_files
from embedfleet.ingest.ingesting import Ingest
from embedfleet.ingest.intake import Estimating, IngestOptions, Intake
from embedfleet.ingest.local_intake import LocalIntake
from embedfleet.ingest.outcomes import FileOutcome, FileState, encodable

__all__ = [
    "Estimating",
    "FileOutcome",
    "FileState",
    "Found",
    "Ingest",
    "IngestOptions",
    "Intake",
    "LocalIntake",
    "encodable",
    "find_files",
]
