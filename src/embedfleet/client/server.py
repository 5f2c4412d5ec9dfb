"""Where the server is, and as whom a client asks it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from urllib.parse import quote

import httpx

from embedfleet.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class Server:
    """The address of a server, such as `http://host:8080`; a path is taken as a prefix of all its paths.

    `tenant`: for whom an operator's key acts; another key has a tenant of its own. `every_tenant`: for all
    that the key may see. The key is in no `repr`.
    Raises InvalidRequest for what cannot be an address or a key.
    """

    url: str
    api_key: str | None = field(default=None, repr=False)
    tenant: str | None = None
    every_tenant: bool = False

    def __post_init__(self) -> None:
        if "@" in self.url:
            raise InvalidRequest(
                "server: the address holds a user or password: leave them out, and give an API key",
                field="server",
            )
        if _host_of(self.url) is None:
            raise InvalidRequest(
                f"server: `{self.url}` is no address of a server: give one such as http://host:8080",
                field="server",
            )
        if self.api_key is not None and not (self.api_key.isascii() and self.api_key.isprintable()):
            raise InvalidRequest(
                "api_key: has characters that no API key has: copy it again", field="api_key"
            )

    def of(self, tenant: str) -> Server:
        """Return the same server, asked for this tenant."""
        return replace(self, tenant=tenant, every_tenant=False)

    def of_all_tenants(self) -> Server:
        """Return the same server, asked for every tenant that the key may see."""
        return replace(self, tenant=None, every_tenant=True)

    @property
    def headers(self) -> dict[str, str]:
        """The headers of every request."""
        key = {} if self.api_key is None else {"Authorization": f"Bearer {self.api_key}"}
        if self.every_tenant:
            return key | EVERY_TENANT
        return key if self.tenant is None else key | tenant_header(self.tenant)


EVERY_TENANT = {"X-Tenant": "*"}
"""The header that asks for every tenant that the key may see."""


def tenant_header(tenant: str) -> dict[str, str]:
    """Return the header that names a tenant. It is percent-encoded, as a header takes ASCII only."""
    return {"X-Tenant": quote(tenant, safe="")}


def _host_of(url: str) -> str | None:
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError):
        return None
    return parsed.host or None if parsed.scheme in ("http", "https") else None
