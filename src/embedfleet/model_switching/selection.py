"""Which switches an operator's order is for."""

from __future__ import annotations

from dataclasses import dataclass

from embedfleet.errors import InvalidRequest

LONGEST_CAMPAIGN = 32


def require_campaign_named(campaign: str | None) -> None:
    """Raise InvalidRequest for an empty campaign, such as a variable of a script that was never set."""
    if campaign is not None and not campaign.strip():
        raise InvalidRequest(
            "campaign: is empty: give the `campaign` of a switch, as the JSON of switches has it, or none",
            field="campaign",
        )


@dataclass(frozen=True, slots=True)
class Selection:
    """The switch of one tenant, those of a campaign, or all. Raises InvalidRequest unless it is one of them.

    An order for many tenants must be given on purpose. So nothing at all selects nothing.
    """

    tenant: str | None = None
    campaign: str | None = None
    all_tenants: bool = False

    def __post_init__(self) -> None:
        require_campaign_named(self.campaign)
        if (self.tenant is not None) + (self.campaign is not None) + self.all_tenants != 1:
            raise InvalidRequest("say whose switches are meant: of one tenant, of one campaign, or of all")

    def require_no_campaign(self) -> None:
        """Raise InvalidRequest if it means a campaign, which only what is under way has."""
        if self.campaign is not None:
            raise InvalidRequest("a campaign is under way already: name a tenant, or mean all of them")
