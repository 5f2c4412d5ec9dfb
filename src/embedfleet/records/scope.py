"""Whose rows a caller may see and change: one tenant's, or every tenant's. A caller always says which."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, true


@dataclass(frozen=True, slots=True)
class OneTenant:
    """The rows of this tenant only; rows of others are as unknown as rows that never were."""

    tenant: str

    def rows(self, tenant_column: ColumnElement[str]) -> ColumnElement[bool]:
        """The condition for a query over a table with this column."""
        return tenant_column == self.tenant

    def holds(self, tenant: str) -> bool:
        """Whether this tenant's rows are within the scope."""
        return tenant == self.tenant


@dataclass(frozen=True, slots=True)
class EveryTenant:
    """The rows of all tenants: for an operator, never for a caller who acts for one tenant."""

    def rows(self, tenant_column: ColumnElement[str]) -> ColumnElement[bool]:
        """The condition for a query over a table with this column."""
        return true()

    def holds(self, tenant: str) -> bool:
        """Whether this tenant's rows are within the scope."""
        return True


Scope = OneTenant | EveryTenant
