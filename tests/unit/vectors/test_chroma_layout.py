"""Names of Chroma collections: valid, one for each tenant and space, and no tenant can forge another's."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedfleet.vectors.chroma.layout import collection_name

CHROMA_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,510}[A-Za-z0-9]")

any_text = st.text(st.characters(exclude_categories=()), max_size=40)  # lone surrogates too


@given(tenant=any_text, space=any_text)
def test_every_name_is_one_chroma_accepts(tenant: str, space: str) -> None:
    assert CHROMA_NAME.fullmatch(collection_name(tenant, space))


@given(first=st.tuples(any_text, any_text), second=st.tuples(any_text, any_text))
def test_different_tenants_or_spaces_never_share_a_name(
    first: tuple[str, str], second: tuple[str, str]
) -> None:
    assert (collection_name(*first) == collection_name(*second)) == (first == second)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("ab", "c"), ("a", "bc")),
        (("1:a", "b"), ("1", ":ab")),
        (("a", ""), ("", "a")),
        (("\u00c4", "s"), ("A\u0308", "s")),  # look the same, are different ids
        (("acme", "s"), ("ACME", "s")),
        (("a/b", "s"), ("a.b", "s")),
        (("a\0", "s"), ("a", "\0s")),
    ],
)
def test_pairs_that_a_careless_encoding_would_mix_up_differ(
    first: tuple[str, str], second: tuple[str, str]
) -> None:
    assert collection_name(*first) != collection_name(*second)


def test_one_tenant_cannot_name_itself_into_the_collection_of_another() -> None:
    victim = collection_name("acme", "space")
    assert collection_name(victim, "space") != victim
    assert collection_name(victim, "") != victim


def test_a_plain_tenant_can_be_read_in_the_name_and_another_is_not_shown() -> None:
    assert collection_name("acme-2", "space").startswith("acme-2-")
    assert collection_name("müller & söhne", "space").startswith("tenant-")
    assert len(collection_name("x" * 10_000, "space")) < 100


def test_the_name_is_stable_across_releases() -> None:
    """Another name would orphan every vector stored before."""
    assert collection_name("local", "minilm") == (
        "local-ab749635c8395b8c198b9a4078ffa6673ad8aaf8b40453066728416f61f0f5d1"
    )
