"""Requests that Schemathesis makes from the OpenAPI document. `make fuzz` makes many more."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.api import serving
from support.fuzzing import fuzzed
from support.system import make_settings

# Schemathesis warns of what it guesses itself, such as formats that it does not know.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


async def test_every_answer_is_one_that_the_document_describes_and_none_is_a_failure(tmp_path: Path) -> None:
    async with serving(make_settings(tmp_path, tenants={"default_tier": "enterprise"})) as served:
        report = await fuzzed(served, cases=150, seed=42, random=False)
    assert not report.findings, report.text()
    assert report.cases >= 150
