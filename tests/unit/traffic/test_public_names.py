"""What an application imports of the traffic package."""

from __future__ import annotations

import pytest

import embedfleet.traffic


def test_every_public_name_is_there() -> None:
    for name in embedfleet.traffic.__all__:
        assert getattr(embedfleet.traffic, name).__name__ == name
    assert set(embedfleet.traffic._MODULES) == set(embedfleet.traffic.__all__)


def test_another_name_is_missing_as_in_any_module() -> None:
    with pytest.raises(AttributeError, match="no attribute `TraficRouter`"):
        embedfleet.traffic.TraficRouter  # noqa: B018
