"""The administration that a caller of the API has: of its tenant, or of all."""

from __future__ import annotations

from embedfleet.administration.operator_administration import OperatorAdministration
from embedfleet.administration.scoped_administration import Administration
from embedfleet.administration.tenant_administration import TenantAdministration
from embedfleet.api.access import Principal
from embedfleet.api.parts import ApiParts
from embedfleet.records.audit import LOCAL


def operator_administration(parts: ApiParts, caller: Principal) -> OperatorAdministration:
    """Return the administration of all tenants, for a caller that is known to be an operator."""
    assert caller.is_operator
    return OperatorAdministration(parts.database, parts.clock, parts.settings, actor=caller.key or LOCAL)


def tenant_administration(parts: ApiParts, caller: Principal) -> TenantAdministration:
    """Return the administration of the tenant that the request acts for. Raises InvalidRequest for none."""
    return TenantAdministration(
        parts.database, parts.clock, parts.settings, caller.tenant, actor=caller.key or LOCAL
    )


def administration_within(parts: ApiParts, caller: Principal) -> Administration:
    """Return what the caller administers: its tenant, or everything for an operator who names none."""
    if caller.named_tenant is None and caller.is_operator:
        return operator_administration(parts, caller)
    return tenant_administration(parts, caller)
