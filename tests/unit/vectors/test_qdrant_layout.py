"""Names and ids in Qdrant: no tenant, space or row can give those of another."""

from __future__ import annotations

import re
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from embedfleet.vectors.port import TenantSpace
from embedfleet.vectors.qdrant import layout

any_text = st.text(st.characters(exclude_categories=()), max_size=20)  # lone surrogates too


@given(space=any_text, tenant=any_text)
def test_every_space_gives_a_name_that_qdrant_accepts_and_no_tenant_is_in_it(space: str, tenant: str) -> None:
    name = layout.rows_collection(TenantSpace(tenant, space, 8))
    assert re.fullmatch(r"[a-z0-9-]{1,255}", name)
    assert name == layout.rows_collection(TenantSpace("another", space, 8))
    assert name != layout.rows_collection(TenantSpace(tenant, space + "x", 8))
    assert name != layout.REGISTER


@given(first=st.tuples(any_text, any_text), second=st.tuples(any_text, any_text))
def test_different_tenants_or_rows_never_share_a_point(
    first: tuple[str, str], second: tuple[str, str]
) -> None:
    assert (layout.row_point(*first) == layout.row_point(*second)) == (first == second)
    assert str(UUID(layout.row_point(*first))) == layout.row_point(*first)


def test_ids_that_a_careless_encoding_would_mix_up_differ() -> None:
    assert layout.row_point("ab", "c") != layout.row_point("a", "bc")
    in_register = layout.register_point(TenantSpace("a", "b", 8))
    assert in_register not in (layout.row_point("a", "b"), layout.mark_point())


@given(first=any_text, second=any_text)
def test_keys_of_metadata_stay_apart_and_can_stand_in_a_path(first: str, second: str) -> None:
    fields = layout.metadata_field(first), layout.metadata_field(second)
    assert (fields[0] == fields[1]) == (first == second)
    assert not set('"\\') & set(fields[0])


def test_a_plain_key_is_stored_as_it_is() -> None:
    assert layout.metadata_path("media_id") == 'metadata."media_id"'


def test_names_and_ids_are_stable_across_releases() -> None:
    """Others would orphan every vector stored before."""
    minilm = TenantSpace("local", "minilm", 384)
    assert layout.rows_collection(minilm) == (
        "embedfleet-384-831cca366f0017ea65470c1d39532366a5f946cba1ee940502cc95512df7d4ae"
    )
    assert layout.row_point("local", "a") == "aec20c13-fa4d-5528-7b1a-2e8b6d84c760"
    assert layout.register_point(minilm) == "c932729e-82b0-59f0-ed4c-2440efc7bb5d"
    assert layout.mark_point() == "5627213e-6a42-d578-0481-8c5982048a95"
