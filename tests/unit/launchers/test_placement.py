"""Why no node takes a worker: what is missing is named, and what nodes have."""

from __future__ import annotations

import pytest

from embedfleet.errors import ConfigError
from embedfleet.launchers.ray.messages import Node
from embedfleet.launchers.ray.placement import fits, why_waiting
from embedfleet.settings import RaySettings, ResourceSettings

SMALL = Node("10.0.0.1 (aa)", {"CPU": 4.0, "memory": 8 * 2.0**30}, {"zone": "a"})
GPU = Node("10.0.0.2 (bb)", {"CPU": 16.0, "GPU": 1.0, "memory": 64 * 2.0**30})


@pytest.mark.parametrize(
    ("amounts", "labels", "takers"),
    [
        ({}, {}, [SMALL, GPU]),
        ({"CPU": 4}, {}, [SMALL, GPU]),
        ({"CPU": 5}, {}, [GPU]),
        ({"GPU": 0.5}, {}, [GPU]),
        ({"GPU": 2}, {}, []),
        ({}, {"zone": "a"}, [SMALL]),
        ({}, {"zone": "!a"}, [GPU]),
        ({}, {"zone": "in(b, a)"}, [SMALL]),
        ({}, {"zone": "!in(b,c)"}, [SMALL, GPU]),
        ({"GPU": 1}, {"zone": "a"}, []),
    ],
)
def test_a_node_fits_if_it_has_all_of_it(
    amounts: dict[str, float], labels: dict[str, str], takers: list[Node]
) -> None:
    assert [node for node in (SMALL, GPU) if fits(node, amounts, labels)] == takers


def test_what_no_node_has_is_named_beside_what_they_have() -> None:
    assert why_waiting("embedding", {"CPU": 1, "GPU": 2}, {"zone": "z"}, [SMALL, GPU]) == (
        "pool `embedding`: a worker asks for CPU 1, GPU 2, zone=z, but no node has so much GPU, label zone=z "
        "(nodes have: 10.0.0.1 (aa) CPU 4, GPU 0, zone=a; 10.0.0.2 (bb) CPU 16, GPU 1, zone=unset): change "
        "`worker_pools.embedding.resources`, or add such a node"
    )


def test_what_no_single_node_has_is_told_apart_from_what_none_has() -> None:
    said = why_waiting("embedding", {"GPU": 1}, {"zone": "a"}, [SMALL, GPU])
    assert "but no node has all of it" in said


def test_a_full_cluster_is_told_apart_from_a_wrong_request() -> None:
    said = why_waiting("storage", {"CPU": 2, "memory": 2**30}, {}, [SMALL, GPU])
    assert said.endswith(
        "a worker waits for CPU 2, memory 1024 MB: no node has taken it yet, and 2 of 2 would fit if nothing "
        "else were on them"
    )


def test_a_long_list_of_nodes_is_cut_and_an_empty_one_is_said() -> None:
    many = [Node(f"n{n}", {"CPU": 1.0}) for n in range(12)]
    assert "n4 CPU 1; and 7 more)" in why_waiting("storage", {"CPU": 2}, {}, many)
    assert "nodes have: there is no node)" in why_waiting("storage", {"CPU": 2}, {}, [])


@pytest.mark.parametrize(
    "wrong",
    [
        {"num_gpus": 1.5},
        {"num_gpus": 0.00001},
        {"num_cpus": -1},
        {"custom": {"GPU": 1}},
        {"custom": {"tpu": 0}},
        {"labels": {"gpu": "A100 80GB"}},
        {"labels": {"zone": "in("}},
        {"labels": {"-zone": "a"}},
    ],
)
def test_an_amount_that_ray_would_refuse_is_refused_with_the_settings(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        ResourceSettings.model_validate(wrong)


def test_labels_of_each_form_are_taken() -> None:
    labels = {"ray.io/accelerator-type": "A100", "a": "!b", "c": "in(d,e)", "f": "!in(g, h)"}
    assert ResourceSettings(labels=labels).labels == labels


def test_ray_client_is_refused_with_the_settings() -> None:
    with pytest.raises(ConfigError, match="Ray Client is not supported"):
        RaySettings(address="ray://head:10001")
