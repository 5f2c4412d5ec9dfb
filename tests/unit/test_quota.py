"""Quota arithmetic, by table."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from embedfleet.quota import Amount, Usage, limits_of, refusal
from embedfleet.settings import TenantsSettings, TierSettings

AN_HOUR_BEFORE_MIDNIGHT = datetime(2026, 3, 1, 23, tzinfo=UTC).timestamp()
TIER = TierSettings(
    weight=1,
    max_active_jobs=10,
    max_document_chars=100,
    daily_chars=1000,
    daily_bytes=2000,
    daily_tokens=300,
)
SETTINGS = TenantsSettings(default_tier="free", tiers={"free": TIER})
FREE = limits_of(SETTINGS, None, {})


def document(chars: int, *, size_bytes: int = 0, tokens: int = 0) -> Amount:
    return Amount(jobs=1, chars=chars, bytes=size_bytes, tokens=tokens)


@pytest.mark.parametrize(
    ("active_jobs", "today", "wanted", "name", "told"),
    [
        (0, Amount(), document(1), None, None),
        (9, Amount(chars=900), document(100), None, None),
        (0, Amount(), document(101), "max_document_chars", (100, 0, None)),  # never
        (10, Amount(), document(1), "max_active_jobs", (10, 10, 10.0)),  # soon
        (0, Amount(chars=901), document(100), "daily_chars", (1000, 901, 3600.0)),  # tomorrow
        (10, Amount(chars=1000), document(101), "max_document_chars", (100, 0, None)),
        (0, Amount(bytes=1900), document(1, size_bytes=100), None, None),
        (0, Amount(bytes=1901), document(1, size_bytes=100), "daily_bytes", (2000, 1901, 3600.0)),
        (0, Amount(tokens=299), document(1, tokens=1), None, None),
        (0, Amount(tokens=300), document(1, tokens=1), "daily_tokens", (300, 300, 3600.0)),
        (0, Amount(), document(1, tokens=301), "daily_tokens", (300, 0, None)),
        # Texts that are embedded at once are no document, and no job.
        (10, Amount(), Amount(texts=2, chars=101, tokens=300), None, None),
        (10, Amount(tokens=1), Amount(texts=2, chars=101, tokens=300), "daily_tokens", (300, 1, 3600.0)),
    ],
)
def test_a_tier_allows_up_to_its_limits_and_says_which_and_when_to_try_again(
    active_jobs: int,
    today: Amount,
    wanted: Amount,
    name: str | None,
    told: tuple[int, int, float | None] | None,
) -> None:
    refused = refusal(FREE, Usage(active_jobs, today), wanted, AN_HOUR_BEFORE_MIDNIGHT)
    if name is None:
        assert refused is None
    else:
        assert refused is not None
        assert refused.name == name
        assert f"raise tenants.tiers.free.{name}" in refused.reason
        assert "\n" not in refused.reason
        assert (refused.limit, refused.used, refused.retry_after) == told


def test_a_document_that_no_day_holds_is_not_put_off_to_tomorrow() -> None:
    limits = limits_of(SETTINGS, "free", {"max_document_chars": 2000})
    refused = refusal(limits, Usage(0, Amount()), document(1001), AN_HOUR_BEFORE_MIDNIGHT)
    assert refused is not None
    assert (refused.limit, refused.retry_after) == (1000, None)
    assert "allows 1,000 a day" in refused.reason
    assert "tomorrow" not in refused.reason


def test_a_limit_of_the_tenants_own_takes_the_place_of_its_tiers_and_is_named_so() -> None:
    limits = limits_of(SETTINGS, "free", {"daily_tokens": None, "max_active_jobs": 2, "later": 1})
    assert refusal(limits, Usage(0, Amount(tokens=10**9)), document(1, tokens=10**9), 0.0) is None
    refused = refusal(limits, Usage(2, Amount()), document(1), 0.0)
    assert refused is not None
    assert "the tenant allows 2" in refused.reason
    assert "raise the tenant's own limit max_active_jobs" in refused.reason
