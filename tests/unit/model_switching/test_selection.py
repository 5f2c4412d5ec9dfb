"""An order means switches on purpose: nothing, or an empty name, is no selection."""

from __future__ import annotations

import pytest

from embedfleet.errors import InvalidRequest
from embedfleet.model_switching.selection import Selection


@pytest.mark.parametrize("campaign", ["", " "])
def test_an_empty_campaign_is_refused_with_what_to_do(campaign: str) -> None:
    with pytest.raises(InvalidRequest, match="campaign: is empty: give the `campaign` of a switch"):
        Selection(campaign=campaign)


def test_exactly_one_selection_is_meant() -> None:
    for wrong in ({}, {"tenant": "a", "campaign": "b"}, {"tenant": "a", "all_tenants": True}):
        with pytest.raises(InvalidRequest, match="of one tenant, of one campaign, or of all"):
            Selection(**wrong)
