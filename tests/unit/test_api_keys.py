"""API keys: what they look like, and what they allow."""

from __future__ import annotations

import re
from typing import Any

import pytest

from embedfleet.administration.schemas import KeyRequest
from embedfleet.api_keys import Scope, allowed_by, hash_of, is_key, is_usable, make_key, prefix_of
from embedfleet.errors import InvalidRequest

EVERY = frozenset(Scope)


def test_a_key_has_a_prefix_that_names_it_and_a_secret_that_is_nowhere_else() -> None:
    key = make_key()
    assert re.fullmatch(r"ef_[a-z0-9]{10}_[A-Za-z0-9]{32}", key.text)
    assert prefix_of(key.text) == key.prefix
    assert len(key.hash) == 32
    assert key.text[14:] not in repr(key)
    assert make_key().text != key.text


def test_only_the_key_itself_has_its_hash() -> None:
    key, other = make_key(), make_key()
    assert is_key(key.text, key.hash)
    assert not is_key(other.text, key.hash)
    assert not is_key(key.text[:-1] + ("a" if key.text[-1] != "a" else "b"), key.hash)


@pytest.mark.parametrize(
    "text",
    ["", "ef_", "Bearer", "ef_short_x", "ef_" + "a" * 10 + "_" + "é" * 32, "x" * 10_000, "\ud800", "ef_\0"],
)
def test_what_cannot_be_a_key_has_no_prefix(text: str) -> None:
    assert prefix_of(text) is None
    assert len(hash_of(text)) == 32


@pytest.mark.parametrize(
    ("given", "allowed"),
    [
        ([Scope.READ], {Scope.READ}),
        ([Scope.WRITE], {Scope.READ, Scope.WRITE}),
        ([Scope.ADMIN], {Scope.ADMIN}),
        ([Scope.OPERATOR], EVERY),
        ([], set()),
    ],
)
def test_a_scope_includes_what_it_cannot_do_without(given: list[Scope], allowed: set[Scope]) -> None:
    assert allowed_by(given) == allowed


@pytest.mark.parametrize(
    ("expires_at", "revoked_at", "usable"),
    [
        (None, None, True),
        (101.0, None, True),
        (100.0, None, False),
        (None, 99.0, False),
        (101.0, 100.0, False),
    ],
)
def test_a_key_ends_when_it_expires_or_is_revoked(
    expires_at: float | None, revoked_at: float | None, usable: bool
) -> None:
    assert is_usable(100.0, expires_at=expires_at, revoked_at=revoked_at) is usable


@pytest.mark.parametrize(
    "wrong",
    [
        {"scopes": []},
        {"expires_in_seconds": 0},
        {"requests_per_minute": 0},
        {"name": "x" * 257},
        {"scopes": ["everything"]},
    ],
)
def test_a_key_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match=next(iter(wrong))):
        KeyRequest(**wrong)
