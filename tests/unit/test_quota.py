"""Quota arithmetic, by table."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from embedfleet.quota import Usage, refusal
from embedfleet.settings import TierSettings

AN_HOUR_BEFORE_MIDNIGHT = datetime(2026, 3, 1, 23, tzinfo=UTC).timestamp()
TIER = TierSettings(weight=1, max_active_jobs=10, max_document_chars=100, daily_chars=1000)


@pytest.mark.parametrize(
    ("active_jobs", "chars_today", "document_chars", "setting", "told"),
    [
        (0, 0, 1, None, None),
        (9, 900, 100, None, None),
        (0, 0, 101, "max_document_chars", (100, 0, None)),  # never
        (10, 0, 1, "max_active_jobs", (10, 10, 10.0)),  # soon
        (0, 901, 100, "daily_chars", (1000, 901, 3600.0)),  # tomorrow
        (10, 1000, 101, "max_document_chars", (100, 0, None)),
    ],
)
def test_a_tier_allows_up_to_its_limits_and_says_which_and_when_to_try_again(
    active_jobs: int,
    chars_today: int,
    document_chars: int,
    setting: str | None,
    told: tuple[int, int, float | None] | None,
) -> None:
    refused = refusal("free", TIER, Usage(active_jobs, chars_today), document_chars, AN_HOUR_BEFORE_MIDNIGHT)
    if setting is None:
        assert refused is None
    else:
        assert refused is not None
        assert f"tenants.tiers.free.{setting}" in refused.reason
        assert "\n" not in refused.reason
        assert (refused.limit, refused.used, refused.retry_after) == told


def test_a_document_that_no_day_holds_is_not_put_off_to_tomorrow() -> None:
    tier = TIER.model_copy(update={"max_document_chars": 2000})
    refused = refusal("free", tier, Usage(0, 0), 1001, AN_HOUR_BEFORE_MIDNIGHT)
    assert refused is not None
    assert (refused.limit, refused.retry_after) == (1000, None)
    assert "allows 1,000 a day" in refused.reason
    assert "tomorrow" not in refused.reason
