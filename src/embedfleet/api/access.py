"""Who makes a request, and what they may do.

A request carries an API key: `Authorization: Bearer KEY`, or `X-Api-Key: KEY`. As long as the system has no
key, the API is open: any request from this machine may do everything, as the tenant that `X-Tenant` names.
A page on the web can make a browser send requests to this machine, and a proxy passes on those of others. So
an open API refuses a request that names another host, or that a page of another host sends, or a proxy for
another machine.
"""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import unquote, urlsplit

from fastapi import Depends, Header, Request
from fastapi.security import APIKeyHeader, HTTPBearer
from fastapi.security.http import HTTPAuthorizationCredentials

from embedfleet.api.keys import KnownKey
from embedfleet.api.parts import ApiParts
from embedfleet.api_keys import Scope
from embedfleet.errors import Forbidden, InvalidRequest, QuotaExceeded, Unauthenticated

_EVERY_SCOPE = frozenset(Scope)
_LONGEST_TENANT = 256
_LONGEST_HEADER = 3 * 4 * _LONGEST_TENANT  # three characters for each byte, up to four bytes a character
_EVERY_TENANT = "*"
# Whom a proxy sends a request for, and which host that client asked for.
_OF_PROXIES = ("x-forwarded-for", "x-forwarded-host", "x-real-ip")

bearer = HTTPBearer(auto_error=False, description="An API key.")
key_header = APIKeyHeader(name="X-Api-Key", auto_error=False, description="An API key.")


@dataclass(frozen=True, slots=True)
class Principal:
    """Who makes a request.

    `named_tenant` is the tenant that the request acts for; None if an operator names none. `key` is the
    prefix of the API key; empty without one.
    """

    named_tenant: str | None
    scopes: frozenset[Scope]
    key: str

    @property
    def tenant(self) -> str:
        """The tenant that the request acts for. Raises InvalidRequest if it names none."""
        if self.named_tenant is None:
            raise InvalidRequest(
                "X-Tenant: is missing: an operator's key belongs to no tenant, so name one", field="X-Tenant"
            )
        return self.named_tenant

    @property
    def is_operator(self) -> bool:
        return Scope.OPERATOR in self.scopes


async def parts_of(request: Request) -> ApiParts:
    """Return the parts of the application that answers this request."""
    parts: ApiParts = request.app.state.parts
    return parts


Parts = Annotated[ApiParts, Depends(parts_of)]
TenantHeader = Annotated[
    str | None,
    Header(
        alias="X-Tenant",
        description="The tenant that the request acts for, with the key of an operator or without keys. "
        "What is not ASCII is percent-encoded UTF-8. `*`: every tenant that the caller may see.",
        min_length=1,
        max_length=_LONGEST_HEADER,
    ),
]


async def principal_of(
    request: Request,
    parts: Parts,
    tenant: TenantHeader = None,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)] = None,
    header: Annotated[str | None, Depends(key_header)] = None,
) -> Principal:
    """Return who makes the request. Raises Unauthenticated, Forbidden, InvalidRequest."""
    text = header if credentials is None else credentials.credentials
    if text is not None and (key := await parts.keys.find(text)) is not None:
        named = _named_tenant(tenant, key.tenant)
        if key.tenant is not None and named not in (None, key.tenant):
            raise Forbidden("X-Tenant: this API key acts for another tenant: leave the header out")
        _count_request(request, parts, key)
        return Principal(key.tenant or named, key.scopes, key.prefix)
    if await parts.keys.any_exists():
        raise Unauthenticated(
            "the request has no API key: send it as `Authorization: Bearer KEY`"
            if text is None
            else "the API key is not valid: make another one, or look whether it has expired"
        )
    # A client library sends some key always. Without keys in the system, its value means nothing.
    if not parts.insecure:
        _require_this_machine(request)
    named = _named_tenant(tenant, parts.settings.tenants.default_tenant)
    return Principal(named, _EVERY_SCOPE, "")


def _count_request(request: Request, parts: ApiParts, key: KnownKey) -> None:
    """Count the request, and keep how its limit stands for the headers of the answer.

    Raises QuotaExceeded if the limit of the key or of its tenant is used up.
    """
    standing = parts.requests.take(key.requests_per_minute, parts.clock.now())
    if standing is None:
        return
    request.state.request_rate = standing
    if standing.retry_after is not None:
        raise QuotaExceeded(
            f"requests: {standing.limit:,} a minute are allowed, and they are used up: wait "
            f"{math.ceil(standing.retry_after)} s, or have requests_per_minute raised",
            name="requests_per_minute",
            limit=standing.limit,
            used=standing.limit,
            retry_after=standing.retry_after,
        )


def _named_tenant(header: str | None, default: str | None) -> str | None:
    """Return the tenant that `X-Tenant` names, the default one without it; None for every tenant.

    Raises InvalidRequest.
    """
    if header is None:
        return default
    if header == _EVERY_TENANT:
        return None
    try:
        name = unquote(header, errors="strict")
    except UnicodeDecodeError as exc:
        raise InvalidRequest("X-Tenant: is not percent-encoded UTF-8: encode it", field="X-Tenant") from exc
    if "\0" in name or len(name) > _LONGEST_TENANT:
        raise InvalidRequest(
            f"X-Tenant: must have at most {_LONGEST_TENANT} characters, and not NUL", field="X-Tenant"
        )
    return name


def _require_this_machine(request: Request) -> None:
    """Raise Forbidden unless the request is for this machine, and neither a page of another host nor a proxy
    for another machine sends it."""
    headers = request.headers
    hosts = [_host_in(f"//{value}") for value in headers.getlist("host")]
    hosts += [_host_in(value) for value in headers.getlist("origin")]
    # A proxy on this machine may name this machine as the host, whatever the client asked for.
    for name in _OF_PROXIES:
        hosts += [_host_in(f"//{one.strip()}") for value in headers.getlist(name) for one in value.split(",")]
    if "forwarded" in headers or not all(map(is_loopback, hosts)):
        raise Forbidden(
            "without an API key, requests are taken only for `localhost`, from this machine: make a key"
        )


def _host_in(url: str) -> str:
    """Return the host of a URL, or of an address with or without a port; empty if there is none."""
    address = url.removeprefix("//")
    if address.count(":") > 1 and "[" not in address and "//" not in address:
        return address  # of IPv6, without a port
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, by its name: `localhost`, or a loopback address."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _requires(scope: Scope) -> Callable[[Principal], Awaitable[Principal]]:
    async def check(principal: Annotated[Principal, Depends(principal_of)]) -> Principal:
        if scope not in principal.scopes:
            raise Forbidden(f"the API key lacks the scope `{scope}`: use a key that has it")
        return principal

    return check


Caller = Annotated[Principal, Depends(principal_of)]
"""The one who makes a request, whatever its scopes."""
Reader = Annotated[Principal, Depends(_requires(Scope.READ))]
Writer = Annotated[Principal, Depends(_requires(Scope.WRITE))]
Admin = Annotated[Principal, Depends(_requires(Scope.ADMIN))]
Operator = Annotated[Principal, Depends(_requires(Scope.OPERATOR))]
"""The one who makes a request, who has this scope."""
