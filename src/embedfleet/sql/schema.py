"""The whole schema: migrations build it, and a test checks that the two are equal."""

from __future__ import annotations

# Imported for their tables, which enter the collection by being made.
import embedfleet.sql.experiment_tables
import embedfleet.sql.model_tables
import embedfleet.sql.tables
import embedfleet.sql.traffic_tables  # noqa: F401
from embedfleet.sql.metadata import metadata

SCHEMA = metadata
"""All tables."""
