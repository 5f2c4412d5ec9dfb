"""The files in `deploy/`, as far as they can be judged without Docker: read by the programs they are for, or
parsed and compared with what the code exports."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from embedfleet.metrics import Metrics
from embedfleet.settings import HttpSettings, load_settings
from support.promtool import promtool

DEPLOY = Path(__file__).parents[2] / "deploy"
CONFIG_IN_IMAGE = "/etc/embedfleet/embeddings_config.yaml"


def load(name: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((DEPLOY / name).read_text(encoding="utf-8"))
    return document


def alerts() -> list[dict[str, Any]]:
    return [rule for group in load("prometheus/alerts.yml")["groups"] for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((DEPLOY / "grafana/embedfleet.json").read_text(encoding="utf-8"))
    return loaded


def panels() -> list[dict[str, Any]]:
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def queries() -> Iterator[str]:
    for panel in panels():
        yield from (target["expr"] for target in panel["targets"])


def exported(registry: CollectorRegistry) -> set[str]:
    """Names of series, as they are scraped."""
    suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}
    return {family.name + end for family in registry.collect() for end in suffixes[family.type]}


class TestPrometheus:
    def test_the_configuration_and_its_rules_are_valid(self) -> None:
        promtool("check", "config", "prometheus.yml", folder=DEPLOY / "prometheus")

    def test_alerts_fire_when_they_should_and_not_before(self) -> None:
        promtool("test", "rules", "alerts_test.yml", folder=DEPLOY / "prometheus")

    def test_orchestrators_are_scraped_where_compose_runs_them(self) -> None:
        (job,) = load("prometheus/prometheus.yml")["scrape_configs"]
        (found,) = job["dns_sd_configs"]
        settings = load_settings(DEPLOY / "embeddings_config.yaml", environ={})
        assert job["job_name"] == "embedfleet"
        assert found["names"] == ["orchestrator"]
        assert found["names"][0] in load("compose.yaml")["services"]
        assert found["port"] == settings.monitoring.metrics_port

    def test_every_alert_says_how_bad_what_and_which_command_comes_first(self) -> None:
        runbook = (DEPLOY / "README.md").read_text(encoding="utf-8")
        assert len(alerts()) >= 10
        for rule in alerts():
            assert rule["labels"]["severity"] in ("critical", "warning"), rule["alert"]
            assert rule["annotations"]["summary"], rule["alert"]
            assert re.search(r"First: `[^`]+`", rule["annotations"]["description"]), rule["alert"]
            assert f"\n### {rule['alert']}\n" in runbook, f"{rule['alert']} has no page in the runbook"


class TestMetricNames:
    def test_alerts_and_dashboard_ask_for_series_that_are_exported(self) -> None:
        known = exported(Metrics().registry)
        asked = " ".join([*(rule["expr"] for rule in alerts()), *queries(), *_variable_queries()])
        assert set(re.findall(r"\bembedding_\w+", asked)) - known == set()

    def test_every_series_is_on_the_dashboard(self) -> None:
        """One nobody looks at is not worth exporting."""
        shown = " ".join(queries())
        whole = {re.sub(r"_(bucket|sum|count)$", "", name) for name in exported(Metrics().registry)}
        assert {name for name in whole if name not in shown} == set()


class TestDashboard:
    def test_every_panel_has_a_title_queries_and_the_chosen_data_source(self) -> None:
        for panel in panels():
            assert panel["title"]
            assert panel["targets"], panel["title"]
            sources = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]
            assert {source["uid"] for source in sources} == {"${datasource}"}, panel["title"]

    def test_every_panel_has_a_unit_and_panels_do_not_overlap(self) -> None:
        taken: set[tuple[int, int]] = set()
        for panel in dashboard()["panels"]:
            place = panel["gridPos"]
            cells = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            assert not taken & cells, panel["title"]
            taken |= cells
            if panel["type"] == "heatmap":
                assert panel["options"]["yAxis"]["unit"] == "s"
            elif panel["type"] != "row":
                assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]

    def test_ids_are_unique(self) -> None:
        ids = [panel["id"] for panel in dashboard()["panels"]]
        assert len(ids) == len(set(ids))


class TestCompose:
    @pytest.fixture
    def services(self) -> dict[str, Any]:
        services: dict[str, Any] = load("compose.yaml")["services"]
        return services

    def test_its_services_are_those_of_a_fleet(self, services: Mapping[str, Any]) -> None:
        assert set(services) == {
            "postgres",
            "redis",
            "chroma",
            "migrate",
            "orchestrator",
            "api",
            "prometheus",
        }

    def test_redis_never_evicts_and_keeps_what_it_has(self, services: Mapping[str, Any]) -> None:
        command = services["redis"]["command"]
        assert command[command.index("--maxmemory-policy") + 1] == "noeviction"
        assert command[command.index("--appendonly") + 1] == "yes"

    def test_workers_start_on_a_migrated_database_and_healthy_services(
        self, services: Mapping[str, Any]
    ) -> None:
        waits_for = {
            name: {on: needs["condition"] for on, needs in service.get("depends_on", {}).items()}
            for name, service in services.items()
        }
        assert waits_for["migrate"] == {"postgres": "service_healthy"}
        assert waits_for["orchestrator"] == {
            "migrate": "service_completed_successfully",
            "redis": "service_healthy",
            "chroma": "service_healthy",
        }
        assert services["migrate"]["command"][:2] == ["db", "upgrade"]
        for name in ("postgres", "redis", "chroma"):
            assert services[name]["healthcheck"]["test"], name

    def test_the_stores_cannot_be_reached_from_outside(self, services: Mapping[str, Any]) -> None:
        assert load("compose.yaml")["networks"]["stores"]["internal"] is True
        for name in ("postgres", "redis", "chroma"):
            assert services[name]["networks"] == ["stores"], name
            assert "ports" not in services[name], name

    def test_the_api_owns_nothing_and_is_published_to_this_machine_only(
        self, services: Mapping[str, Any]
    ) -> None:
        api = services["api"]
        assert api["command"][:3] == ["serve", "--workers", "none"]
        assert api["ports"] == [f"127.0.0.1:8080:{HttpSettings().port}"]
        assert api["depends_on"] == services["orchestrator"]["depends_on"]

    def test_what_is_stored_is_on_named_volumes(self, services: Mapping[str, Any]) -> None:
        named = load("compose.yaml")["volumes"]
        for name in ("postgres", "redis", "chroma", "prometheus"):
            assert any(mount.split(":")[0] in named for mount in services[name]["volumes"]), name

    def test_a_stop_waits_longer_than_workers_drain(self, services: Mapping[str, Any]) -> None:
        assert int(services["orchestrator"]["stop_grace_period"].removesuffix("s")) > 30

    def test_no_password_is_written_down_and_all_are_asked_for(self) -> None:
        text = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
        asked = set(re.findall(r"\$\{(\w+):\?", text))
        example = (DEPLOY / ".env.example").read_text(encoding="utf-8")
        assert set(re.findall(r"\$\{(\w+)", text)) == asked, "without `:?` a missing one would be empty"
        assert set(re.findall(r"^(\w+)=$", example, re.MULTILINE)) == asked

    def test_the_settings_are_valid_with_the_urls_from_the_environment(
        self, services: Mapping[str, Any]
    ) -> None:
        given = services["orchestrator"]["environment"]
        environ = {name: re.sub(r"\$\{[^}]*\}", "s3cret", value) for name, value in given.items()}
        settings = load_settings(DEPLOY / "embeddings_config.yaml", environ=environ)
        assert settings.redis.url is not None
        assert settings.database.url is not None
        hosts = {
            f"{url}".split("@")[-1] for url in (settings.redis.url.get_secret_value(), settings.database_url)
        }
        assert hosts == {"redis:6379/0", "postgres:5432/embedfleet"}
        assert settings.vector_store.url == "http://chroma:8000"
        assert settings.monitoring.metrics_host == "0.0.0.0"


class TestImage:
    @pytest.fixture
    def instructions(self) -> list[tuple[str, str]]:
        """Of the last stage, in order."""
        text = re.sub(r"\\\n\s*", " ", (DEPLOY / "Dockerfile").read_text(encoding="utf-8"))
        lines = [line for line in text.splitlines() if line and not line.startswith("#")]
        pairs = [(word, rest) for word, _, rest in (line.partition(" ") for line in lines)]
        last = max(number for number, (word, _) in enumerate(pairs) if word == "FROM")
        return pairs[last:]

    def test_it_runs_the_workers_as_a_user_without_rights(self, instructions: list[tuple[str, str]]) -> None:
        last = dict(instructions)
        assert last["FROM"] == "python:3.11-slim"
        assert last["USER"] not in ("root", "0")
        command = [*json.loads(last["ENTRYPOINT"]), *json.loads(last["CMD"])]
        assert command == ["embedfleet", "serve-workers", "--config", CONFIG_IN_IMAGE]
        assert last["STOPSIGNAL"] == "SIGTERM"
        assert "/healthz" in last["HEALTHCHECK"]

    def test_the_extras_that_it_installs_and_that_the_guide_names_exist(self) -> None:
        root = DEPLOY.parent
        known = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
        text += (root / "docs/deploying.md").read_text(encoding="utf-8")
        named = re.findall(r"EXTRAS=([\w,]+)", text)
        assert len(named) == 2
        assert {extra for one in named for extra in one.split(",")} <= set(known["optional-dependencies"])

    def test_what_it_copies_exists_and_is_let_into_the_build(self) -> None:
        root = DEPLOY.parent
        text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
        let_in = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
        for line in re.findall(r"^COPY (?!--from)(.+)$", text, re.MULTILINE):
            for source in line.split()[:-1]:
                assert (root / source).exists(), source
                assert f"!{source}" in let_in, source


def _variable_queries() -> list[str]:
    return [variable.get("definition", "") for variable in dashboard()["templating"]["list"]]
