"""Quota arithmetic, by table."""

from __future__ import annotations

import pytest

from embedfleet.quota import Usage, refusal
from embedfleet.settings import TierSettings

TIER = TierSettings(weight=1, max_active_jobs=10, max_document_chars=100, daily_chars=1000)


@pytest.mark.parametrize(
    ("active_jobs", "chars_today", "document_chars", "setting"),
    [
        (0, 0, 1, None),
        (9, 900, 100, None),
        (0, 0, 101, "max_document_chars"),
        (10, 0, 1, "max_active_jobs"),
        (0, 901, 100, "daily_chars"),
        (10, 1000, 101, "max_document_chars"),
    ],
)
def test_a_tier_allows_up_to_its_limits_and_names_the_setting_beyond(
    active_jobs: int, chars_today: int, document_chars: int, setting: str | None
) -> None:
    reason = refusal("free", TIER, Usage(active_jobs, chars_today), document_chars)
    if setting is None:
        assert reason is None
    else:
        assert reason is not None
        assert f"tenants.tiers.free.{setting}" in reason
        assert "\n" not in reason
