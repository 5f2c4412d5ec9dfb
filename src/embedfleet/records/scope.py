"""The scope of a caller: it may see and change the rows of one tenant, or of every tenant.

It has no default, so every caller states its scope.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, true


@dataclass(frozen=True, slots=True)
class OneTenant:
    """The rows of this tenant only. The rows of others count as unknown."""

    tenant: str

    def rows(self, tenant_column: ColumnElement[str]) -> ColumnElement[bool]:
        """Return the condition for a query over a table with this column."""
        return tenant_column == self.tenant

    def holds(self, tenant: str) -> bool:
        """Whether this tenant's rows are within the scope."""
        return tenant == self.tenant


@dataclass(frozen=True, slots=True)
class EveryTenant:
    """The rows of all tenants, for an operator. Never use it for a caller that acts for one tenant."""

    def rows(self, tenant_column: ColumnElement[str]) -> ColumnElement[bool]:
        """Return the condition for a query over a table with this column."""
        return true()

    def holds(self, tenant: str) -> bool:
        """Whether this tenant's rows are within the scope."""
        return True


Scope = OneTenant | EveryTenant
