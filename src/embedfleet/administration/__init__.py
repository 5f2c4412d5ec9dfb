"""Tenants, their keys, limits and usage: what admins and operators do. What changes something is audited.

`TenantAdministration` is bound to one tenant. `OperatorAdministration` works on all tenants, and alone sets
tiers and limits.

May import: lifecycle, tokenising, joining, explanation, interactive and below.
"""
