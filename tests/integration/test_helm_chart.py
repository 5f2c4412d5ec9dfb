"""The Helm chart: rendered by Helm, held against the schemas of Kubernetes and against what the code does."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from prometheus_client import CollectorRegistry

from embedfleet.deployment import deployment_of
from embedfleet.metrics import Metrics
from embedfleet.queue_schemas import Stage
from embedfleet.settings import Settings, VectorStoreSettings, load_settings
from support.helm import CHART, rendered, run_helm
from support.promtool import promtool

DEPLOYING = CHART.parents[2] / "docs/deploying.md"
EXAMPLES = CHART.parent / "examples"
VALUES = [(), (EXAMPLES / "scaled.yaml",), (EXAMPLES / "workers-only.yaml",)]
SECRETS = {
    "EMBEDFLEET_REDIS__URL": "redis://:s3cret@redis:6379/0",
    "EMBEDFLEET_DATABASE__URL": "postgresql://embedfleet:s3cret@postgres/embedfleet",
}
WITHOUT_SCHEMA = {"ScaledObject", "ServiceMonitor"}
"""Kinds of operators, whose schemas are in no package."""


@pytest.fixture(params=VALUES, ids=["default", "scaled", "workers-only"])
def objects(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    return rendered(*request.param)


@pytest.fixture(scope="module")
def scaled() -> list[dict[str, Any]]:
    return rendered(EXAMPLES / "scaled.yaml")


def of_kind(objects: list[dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    """The objects of a kind, by what they are of."""
    return {
        one["metadata"]["labels"]["app.kubernetes.io/component"]: one
        for one in objects
        if one["kind"] == kind
    }


def pods(objects: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    for kind in ("Deployment", "Job"):
        for name, one in of_kind(objects, kind).items():
            yield name, one["spec"]["template"]["spec"]


def rules_for_all(objects: list[dict[str, Any]]) -> dict[str, Any]:
    """The policy of all pods of the fleet."""
    policies = [one["spec"] for one in objects if one["kind"] == "NetworkPolicy"]
    (rules,) = (
        one for one in policies if "app.kubernetes.io/component" not in one["podSelector"]["matchLabels"]
    )
    return dict(rules)


def settings_of(objects: list[dict[str, Any]], folder: Path) -> Settings:
    """The settings of a pod, by its ConfigMap and Secret."""
    (config,) = (one for one in objects if one["kind"] == "ConfigMap")
    path = folder / "embeddings_config.yaml"
    path.write_text(config["data"]["embeddings_config.yaml"])
    return load_settings(path, environ=SECRETS)


class TestKubernetes:
    def test_helm_finds_nothing_wrong(self) -> None:
        linted = run_helm("lint", "--strict", str(CHART))
        assert linted.returncode == 0, linted.stdout

    @pytest.mark.parametrize(
        ("given", "words"),
        [
            ("coordinator.replicas=0", "/coordinator/replicas"),  # nothing would lead
            ("config.orchestrator.launcher=process", "/config/orchestrator/launcher"),
            ("config.monitoring.metrics_host=127.0.0.1", "metrics_host"),  # no probe would reach it
            ("config.worker_pools.embeding.workers=2", "'embeding' not allowed"),
            # Kubernetes would refuse the autoscaler that KEDA makes of it.
            ("config.auto_scaling.stabilisation_seconds=4000", "stabilisation_seconds"),
            ("pools.embedding.resourses.limits=1", "'resourses' not allowed"),
        ],
    )
    def test_a_value_that_is_misspelt_or_would_not_work_is_refused(self, given: str, words: str) -> None:
        refused = run_helm("template", "fleet", str(CHART), "--set", given)
        assert refused.returncode != 0
        assert words in refused.stderr

    def test_every_object_follows_the_schema_of_its_kind(self, objects: list[dict[str, Any]]) -> None:
        for one in objects:
            if one["kind"] not in WITHOUT_SCHEMA:
                kubernetes_validate.validate(one, kubernetes_validate.latest_version(), strict=True)

    def test_no_pod_has_rights_or_writes_outside_its_volumes(self, objects: list[dict[str, Any]]) -> None:
        for name, pod in pods(objects):
            (container,) = pod["containers"]
            assert pod["securityContext"]["runAsNonRoot"], name
            assert pod["automountServiceAccountToken"] is False, name
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name
            writable = [one["mountPath"] for one in container["volumeMounts"] if not one.get("readOnly")]
            environment = {one["name"]: one.get("value") for one in container["env"]}
            assert sorted(writable) == ["/tmp", "/var/lib/embedfleet"], name
            for path in (environment["HOME"], environment["EMBEDFLEET_DATA_DIR"]):
                assert Path(path or "").is_relative_to("/var/lib/embedfleet"), name

    def test_kubernetes_adds_no_variable_that_would_be_an_unknown_setting(
        self, objects: list[dict[str, Any]]
    ) -> None:
        """A Service `embedfleet-api` would give every pod EMBEDFLEET_API_PORT."""
        for name, pod in pods(objects):
            assert pod["enableServiceLinks"] is False, name

    def test_a_pod_has_longer_to_stop_than_its_workers_to_drain(self) -> None:
        objects = rendered(sets={"config.orchestrator.drain_seconds": "100.5"})
        for name, pod in pods(objects):
            # The API answers for 5 s more, until no balancer sends requests to it.
            expected = {"migration": None, "api": 121}.get(name, 116)
            assert pod.get("terminationGracePeriodSeconds") == expected, name

    def test_the_api_answers_until_balancers_know_that_its_pod_ends(self) -> None:
        ends = {name: pod["containers"][0].get("lifecycle") for name, pod in pods(rendered())}
        assert ends.pop("api") == {"preStop": {"exec": {"command": ["sleep", "5"]}}}
        assert set(ends.values()) == {None}

    def test_a_node_can_be_drained_while_no_pod_is_ready(self, objects: list[dict[str, Any]]) -> None:
        for name, one in of_kind(objects, "PodDisruptionBudget").items():
            assert one["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow", name

    def test_probes_ask_for_what_their_process_serves(
        self, objects: list[dict[str, Any]], tmp_path: Path
    ) -> None:
        settings = settings_of(objects, tmp_path)
        ports = {"metrics": settings.monitoring.metrics_port, "http": settings.http.port}
        for name, one in of_kind(objects, "Deployment").items():
            (container,) = one["spec"]["template"]["spec"]["containers"]
            (port,) = container["ports"]
            assert port["name"] == ("http" if name == "api" else "metrics")
            assert port["containerPort"] == ports[port["name"]]
            asked = {
                probe: container[probe]["httpGet"]
                for probe in ("startupProbe", "livenessProbe", "readinessProbe")
            }
            assert asked["livenessProbe"] == {"path": "/healthz", "port": port["name"]}
            assert asked["readinessProbe"] == {"path": "/readyz", "port": port["name"]}
            assert asked["startupProbe"] == asked["livenessProbe"]

    def test_selectors_find_the_pods_they_are_for(self, objects: list[dict[str, Any]]) -> None:
        deployments = of_kind(objects, "Deployment")
        budgets = of_kind(objects, "PodDisruptionBudget")
        assert set(budgets) == set(deployments)
        for name, one in deployments.items():
            labels = one["spec"]["template"]["metadata"]["labels"]
            for selector in (one["spec"]["selector"], budgets[name]["spec"]["selector"]):
                assert selector["matchLabels"].items() <= labels.items(), name
                assert selector["matchLabels"]["app.kubernetes.io/component"] == name


class TestSettings:
    def test_the_values_are_the_settings_file_and_pods_of_them_make_a_fleet(
        self, objects: list[dict[str, Any]], tmp_path: Path
    ) -> None:
        settings = settings_of(objects, tmp_path)
        deployment = deployment_of(settings)
        assert deployment.shared_broker
        assert not deployment.launches, "Kubernetes starts the workers"
        assert settings.monitoring.metrics_host == settings.http.host == "0.0.0.0"

    def test_large_numbers_stay_whole(self, tmp_path: Path) -> None:
        objects = rendered(sets={"config.worker_pools.embedding.max_queued_tokens": "104857600"})
        assert settings_of(objects, tmp_path).worker_pools.embedding.max_queued_tokens == 104_857_600

    def test_a_change_of_the_settings_replaces_the_pods(self) -> None:
        def marks(**sets: str) -> set[str]:
            made = of_kind(rendered(sets=sets), "Deployment").values()
            return {one["spec"]["template"]["metadata"]["annotations"]["checksum/config"] for one in made}

        before = marks()
        assert len(before) == 1
        assert marks(**{"config.models.default": '"bge-small"'}).isdisjoint(before)

    def test_secrets_come_from_the_secret_alone(self, objects: list[dict[str, Any]]) -> None:
        assert not [one for one in objects if one["kind"] == "Secret"]
        for name, pod in pods(objects):
            (container,) = pod["containers"]
            assert container["envFrom"] == [{"secretRef": {"name": "embedfleet"}}], name

    @pytest.mark.parametrize("example", VALUES[1:], ids=["scaled", "workers-only"])
    def test_an_example_laid_over_the_values_of_a_fleet_leaves_its_vectors_where_they_are(
        self, example: tuple[Path], tmp_path: Path
    ) -> None:
        documented = re.findall(r"```yaml\n(# values\.yaml\n.*?)```", DEPLOYING.read_text(), re.DOTALL)
        own = tmp_path / "values.yaml"
        own.write_text(*documented)

        def store(*values: Path) -> VectorStoreSettings:
            return settings_of(rendered(own, *values), tmp_path).vector_store

        assert store(*example) == store() != VectorStoreSettings()


class TestPools:
    def test_a_pool_is_replaced_without_a_pod_more_than_it_has(self, objects: list[dict[str, Any]]) -> None:
        """Where GPUs are all in use, a further pod would wait for ever, and no old one would go."""
        for stage in Stage:
            if stage in (found := of_kind(objects, "Deployment")):
                assert found[stage]["spec"]["strategy"]["rollingUpdate"]["maxSurge"] == 0, stage

    def test_there_is_a_process_for_each_pool_one_that_leads_and_an_api_that_owns_nothing(self) -> None:
        arguments = {
            name: one["spec"]["template"]["spec"]["containers"][0]["args"]
            for name, one in of_kind(rendered(), "Deployment").items()
        }
        config = ["--config", "/etc/embedfleet/embeddings_config.yaml"]
        assert arguments == {
            "coordinator": ["serve-workers", "--wait", *config],
            "api": ["serve", "--workers", "none", *config],
        } | {stage.value: ["serve-workers", "--pool", stage.value, *config] for stage in Stage}

    def test_a_pool_of_at_most_none_is_left_out_and_the_others_have_their_size(self) -> None:
        found = of_kind(rendered(EXAMPLES / "workers-only.yaml"), "Deployment")
        assert {name: one["spec"]["replicas"] for name, one in found.items()} == {
            "coordinator": 1,
            "chunking": 2,
            "embedding": 4,
            "storage": 1,
        }

    def test_a_model_has_as_many_threads_as_its_pod_has_cores_unless_it_has_a_gpu(
        self, scaled: list[dict[str, Any]]
    ) -> None:
        def container(objects: list[dict[str, Any]]) -> dict[str, Any]:
            deployment = of_kind(objects, "Deployment")["embedding"]
            first: dict[str, Any] = deployment["spec"]["template"]["spec"]["containers"][0]
            return first

        named = "EMBEDFLEET_MODELS__THREADS"
        assert named in [one["name"] for one in container(rendered())["env"]]
        assert named not in [one["name"] for one in container(scaled)["env"]]
        assert container(scaled)["resources"]["limits"]["nvidia.com/gpu"] == 1


class TestScaling:
    def test_every_pool_is_scaled_within_the_limits_of_the_settings_and_helm_sets_no_size(
        self, scaled: list[dict[str, Any]], tmp_path: Path
    ) -> None:
        settings = settings_of(scaled, tmp_path)
        deployments = of_kind(scaled, "Deployment")
        objects = of_kind(scaled, "ScaledObject")
        assert set(objects) == set(Stage)
        for stage, one in objects.items():
            spec, pool = one["spec"], settings.worker_pools.of(stage)
            assert spec["scaleTargetRef"]["name"] == deployments[stage]["metadata"]["name"]
            assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (pool.min_workers, pool.max_workers)
            assert spec["cooldownPeriod"] == settings.auto_scaling.idle_seconds
            assert "replicas" not in deployments[stage]["spec"], "an upgrade would set back what KEDA decided"
            concurrency = f"/ {pool.concurrency} / {settings.auto_scaling.target_busy_fraction}"
            assert concurrency in spec["triggers"][1]["metadata"]["query"]
            assert {trigger["metadata"]["ignoreNullValues"] for trigger in spec["triggers"]} == {"false"}

    def test_without_scaling_no_object_of_an_operator_is_made(self) -> None:
        assert {one["kind"] for one in rendered()} & WITHOUT_SCHEMA == set()

    def test_queries_ask_for_series_that_are_exported(self, scaled: list[dict[str, Any]]) -> None:
        asked = " ".join(query for pair in _queries(scaled).values() for query in pair)
        assert set(re.findall(r"\bembedding_\w+", asked)) <= _exported(Metrics().registry)

    def test_a_pool_is_woken_grows_with_its_backlog_is_kept_while_it_works_and_rests_without_any(
        self, scaled: list[dict[str, Any]], tmp_path: Path
    ) -> None:
        """The queries, computed by Prometheus over what a fleet tells in each situation."""
        backlog, load = _queries(scaled)["embedding"]
        rules = [{"record": "backlog", "expr": backlog}, {"record": "load", "expr": load}]
        groups = {"groups": [{"name": "queries", "rules": rules}]}
        (tmp_path / "rules.yml").write_text(yaml.safe_dump(groups))
        cases = [
            _case("nothing to do", {"backlog_seconds": 0, "queue_depth": 0}, backlog=0, load=0),
            _case("work of an unknown rate wakes one", {"queue_depth": 7}, backlog=1, load=0),
            _case("a backlog", {"backlog_seconds": 150, "queue_depth": 7}, backlog=150, load=0),
            _case(
                "a task in hand keeps one pod",
                {"backlog_seconds": 0, "queue_depth": 0, "leased_tasks": 1},
                backlog=0,
                load=1,
            ),
            # 2 loops a worker: 6.4 busy seconds a second are 3.2 workers, of which 0.8 should be busy: 4.
            _case(
                "busy pods are kept though little waits",
                {"backlog_seconds": 1, "queue_depth": 1, "leased_tasks": 64},
                busy_per_minute=6.4 * 60,
                backlog=1,
                load=4,
            ),
            _case("no answer is no number, and no 0", {}, backlog=None, load=0),
        ]
        (tmp_path / "tests.yml").write_text(yaml.safe_dump({"rule_files": ["rules.yml"], "tests": cases}))
        promtool("test", "rules", "tests.yml", folder=tmp_path)


class TestNetwork:
    def test_only_the_api_and_the_metrics_can_be_reached(self) -> None:
        assert "Ingress" in rules_for_all(rendered())["policyTypes"]
        ports = {
            port["port"]
            for one in rendered()
            if one["kind"] == "NetworkPolicy"
            for rule in one["spec"].get("ingress", [])
            for port in rule["ports"]
        }
        assert ports == {"metrics", "http"}

    def test_no_one_reads_the_metrics_if_no_one_is_named(self) -> None:
        """An empty `from` would be everyone."""
        rules = rules_for_all(rendered(sets={"networkPolicy.metricsFrom": "[]"}))
        assert rules["ingress"] == []
        assert "Ingress" in rules["policyTypes"]

    def test_dns_is_reached_wherever_it_is_and_the_store_by_its_url(self) -> None:
        def reached(url: str) -> dict[int, list[Any]]:
            stores = {"config.vector_store": f'{{"kind": "qdrant", "url": "{url}"}}'}
            rules = rules_for_all(rendered(sets=stores))["egress"]
            return {port["port"]: rule.get("to", []) for rule in rules for port in rule["ports"]}

        with_port = reached("http://qdrant.search:6333")
        assert with_port[53] == [], "NodeLocal DNSCache is an address of the node, and no pod"
        assert with_port.keys() - reached("https://qdrant.example").keys() == {6333}

    def test_metrics_are_scraped_from_a_service_that_selects_every_process(
        self, scaled: list[dict[str, Any]]
    ) -> None:
        services = of_kind(scaled, "Service")
        monitor = of_kind(scaled, "ServiceMonitor")["metrics"]["spec"]
        service = services["metrics"]
        assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
        assert monitor["endpoints"][0]["port"] == service["spec"]["ports"][0]["name"]
        # The job's name is that of the alerts.
        assert service["metadata"]["labels"][monitor["jobLabel"]] == "embedfleet"
        named = f'service="{service["metadata"]["name"]}"'
        assert all(named in query for pair in _queries(scaled).values() for query in pair)


class TestMigration:
    def test_it_has_every_variable_that_the_other_pods_have_from_outside(self) -> None:
        secret = {"secretKeyRef": {"name": "pg", "key": "uri"}}
        url = {"name": "EMBEDFLEET_DATABASE__URL", "valueFrom": secret}
        for name, pod in pods(rendered(sets={"extraEnv": json.dumps([url])})):
            named = [one["name"] for one in pod["containers"][0]["env"]]
            assert "EMBEDFLEET_DATABASE__URL" in named, name

    def test_a_setting_that_it_would_not_read_is_refused(self) -> None:
        given = ("--set", "config.database.url=postgresql://postgres/embedfleet")
        refused = run_helm("template", "fleet", str(CHART), *given)
        assert refused.returncode != 0
        assert "the migration does not read `config`" in refused.stderr

    def test_it_runs_before_the_pods_of_a_release_and_needs_the_secret_only(self) -> None:
        job = of_kind(rendered(), "Job")["migration"]
        assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
        pod = job["spec"]["template"]["spec"]
        assert "serviceAccountName" not in pod, "the chart's account does not exist yet"
        assert not [one for one in pod["volumes"] if "configMap" in one], "nor its ConfigMap"
        assert pod["containers"][0]["args"] == ["db", "upgrade", "--config", "/dev/null"]


def _queries(objects: list[dict[str, Any]]) -> dict[str, tuple[str, str]]:
    """The two queries of each pool: its backlog, and its load."""
    found = {}
    for stage, one in of_kind(objects, "ScaledObject").items():
        backlog, load = (trigger["metadata"]["query"] for trigger in one["spec"]["triggers"])
        found[stage] = (backlog, load)
    return found


def _case(
    name: str,
    gauges: dict[str, float],
    *,
    backlog: float | None,
    load: float,
    busy_per_minute: float | None = None,
) -> dict[str, Any]:
    """A test of promtool: what the leader tells, and what both queries give then."""
    labels = '{namespace="search",service="fleet-embedfleet-metrics",stage="embedding",pod="leader"}'
    other = labels.replace("search", "another-fleet")
    series = [
        {"series": f"embedding_{key}{labels}", "values": f"{value}x10"} for key, value in gauges.items()
    ]
    series += [{"series": f"embedding_{key}{other}", "values": "999x10"} for key in gauges]
    if busy_per_minute is not None:
        values = f"0+{busy_per_minute}x10"
        series.append({"series": f"embedding_busy_seconds_total{labels}", "values": values})
    expected = [] if backlog is None else [{"labels": "{}", "value": backlog}]
    return {
        "name": name,
        "interval": "1m",
        "input_series": series,
        "promql_expr_test": [
            {"expr": "sum(backlog)", "eval_time": "8m", "exp_samples": expected},
            {"expr": "sum(load)", "eval_time": "8m", "exp_samples": [{"labels": "{}", "value": load}]},
        ],
    }


def _exported(registry: CollectorRegistry) -> set[str]:
    return {family.name + ("_total" if family.type == "counter" else "") for family in registry.collect()}
