"""The walk of docs/deploying.md: what it types is typed, as far as a machine without a cluster can."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from embedfleet.cli import app
from embedfleet.cli.arguments import checked
from embedfleet.deployment import deployment_of
from embedfleet.settings import Settings, load_settings
from support.command import Command
from support.hangs import HANG_SECONDS
from support.helm import run_helm

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs/deploying.md"
INSTALLED = "/opt/embedfleet/bin/embedfleet"


def section(title: str) -> str:
    """The text below a heading, to the next one."""
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    assert found, title
    return found[1]


def typed(text: str) -> list[list[str]]:
    """The commands of the shell blocks, in words."""
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [words for block in blocks for line in block.splitlines() if (words := shlex.split(line, True))]


def settings(text: str, folder: Path, environ: dict[str, str] | None = None) -> Settings:
    """What the section's first YAML block says."""
    block = re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)[0]
    path = folder / "embeddings_config.yaml"
    path.write_text(block)
    return load_settings(path, environ=environ or {})


def test_a_laptop_ingests_searches_and_serves(command: Command, corpus: Path) -> None:
    install, *commands, serve = typed(section("A laptop"))
    assert install[:2] == ["pip", "install"]
    assert serve == ["embedfleet", "serve"]
    for words in commands:
        assert words[0] == "embedfleet"
        done = command.run(*(str(corpus) if word == "~/papers" else word for word in words[1:]))
        assert done.code == 0, done.stderr
    serving = command.start(*serve[1:], env={"EMBEDFLEET_HTTP__PORT": "0"})
    drained_after_start(serving)


def test_the_unit_of_one_server_serves_by_its_settings_and_drains(command: Command, tmp_path: Path) -> None:
    """The program of the unit, with the settings of the guide, in a directory in place of /etc and /var."""
    text = section("One server")
    given = settings(text, tmp_path)
    assert given.http.host == "0.0.0.0"
    key = next(words for words in typed(text) if "keys" in words)
    made = command.run(*key[key.index("keys") :])
    assert made.code == 0, made.stderr
    started = re.search(r"^ExecStart=\S+ (.*)$", unit("embedfleet.service"), re.MULTILINE)
    assert started
    config = str(tmp_path / "embeddings_config.yaml")
    words = [config if word.startswith("/etc/") else word for word in started[1].split()]
    drained_after_start(command.start(*words, env={"EMBEDFLEET_HTTP__PORT": "0"}))


def test_the_settings_of_several_servers_are_those_of_a_fleet(tmp_path: Path) -> None:
    text = section("Several servers")
    secrets = dict(line.split("=", 1) for line in re.findall(r"^EMBEDFLEET_\S+$", text, re.MULTILINE))
    assert set(secrets) == {"EMBEDFLEET_REDIS__URL", "EMBEDFLEET_DATABASE__URL"}
    deployment = deployment_of(settings(text, tmp_path, secrets))
    assert deployment.shared_broker
    assert deployment.worker_processes


def test_what_is_copied_into_place_is_in_the_checkout() -> None:
    copied = [words[-2] for words in typed(GUIDE.read_text()) if words[0] == "install"]
    assert len(copied) >= 5
    for path in copied:
        assert path == "/dev/null" or (ROOT / path).is_file(), path
    values = re.findall(r"(?<=--values )\S+/\S+", GUIDE.read_text())
    assert all((ROOT / path).is_file() for path in values)


def test_every_command_of_ours_exists_with_its_options() -> None:
    said = [*commands_of_ours()]
    assert len(said) >= 8, "the pattern finds nothing: it is broken"
    for words in said:
        command: Any = checked(typer.main.get_command(app))
        rest = list(words)
        while rest and rest[0] in getattr(command, "commands", {}):
            command = command.commands[rest.pop(0)]
        assert not getattr(command, "commands", {}), words
        known = {name for parameter in command.params for name in parameter.opts}
        assert {word for word in rest if word.startswith("--")} <= known, words


def test_kubernetes_gets_a_chart_that_renders_with_the_values_of_the_guide(tmp_path: Path) -> None:
    text = section("Kubernetes")
    (block,) = re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    (tmp_path / "values.yaml").write_text(block)
    helm = [words for words in typed(text) if words[0] == "helm"]
    assert [words[1] for words in helm] == ["install", "upgrade"]
    for words in helm:
        arguments = [in_place(word, tmp_path) for word in words[2:]]
        ran = run_helm("template", *arguments)
        assert ran.returncode == 0, ran.stderr
        made = [one for one in yaml.safe_load_all(ran.stdout) if one]
        assert {one["kind"] for one in made} >= {"Deployment", "ConfigMap", "Job", "NetworkPolicy"}
        assert ("ScaledObject" in {one["kind"] for one in made}) == (words[1] == "upgrade")
        images = set(re.findall(r"image: (\S+)", ran.stdout))
        built = next(
            words[words.index("-t") + 1] for words in typed(text) if words[:2] == ["docker", "build"]
        )
        assert images == {built}


def test_the_secret_of_kubernetes_has_the_settings_that_a_fleet_needs(tmp_path: Path) -> None:
    text = section("Kubernetes")
    (create,) = (words for words in typed(text) if "secret" in words)
    literals = [word.removeprefix("--from-literal=") for word in create if word.startswith("--from-literal=")]
    secrets = dict(literal.split("=", 1) for literal in literals)
    block = re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)[0]
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps(yaml.safe_load(block)["config"]))
    assert deployment_of(load_settings(config, environ=secrets)).shared_broker


@pytest.mark.slow
def test_a_pod_writes_to_its_two_volumes_only(command: Command, corpus: Path, tmp_path: Path) -> None:
    """Every other path is read-only here, as in a pod. What would be written elsewhere fails."""
    if shutil.which("unshare") is None or os.geteuid() != 0:
        pytest.skip("only root can make a file system read-only for a process")
    work, tmp = tmp_path / "var-lib-embedfleet", tmp_path / "tmp"
    work.mkdir()
    tmp.mkdir()
    script = (
        'mount --make-rprivate / && for one in "$WORK" "$TMP"; do mount --bind "$one" "$one"; done '
        '&& mount -o remount,ro,bind / && mount -t tmpfs -o ro none /dev/shm && exec "$@"'
    )
    environment = command.environment() | {
        "WORK": str(work),
        "TMP": str(tmp),
        "TMPDIR": str(tmp),
        "HOME": str(work),
        "EMBEDFLEET_DATA_DIR": str(work / "data"),
        "EMBEDFLEET_MODELS__DEFAULT": "minilm",
    }
    environment.pop("XDG_CONFIG_HOME")
    ran = subprocess.run(
        [
            "unshare",
            "--mount",
            "sh",
            "-c",
            script,
            "sh",
            sys.executable,
            "-m",
            "embedfleet",
            "ingest",
            corpus,
        ],
        env=environment,
        cwd=work,
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
    )
    if "mount" in ran.stderr:
        pytest.skip(f"this container lets nobody mount: {ran.stderr}")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("2 ingested"), ran.stdout


def commands_of_ours() -> Iterator[list[str]]:
    """Every command of embedfleet in the guide: in its blocks, and between backticks."""
    text = GUIDE.read_text()
    for words in typed(text):
        programs = [number for number, word in enumerate(words) if word in ("embedfleet", INSTALLED)]
        if programs and words[0] in ("embedfleet", "sudo", "systemd-run"):
            yield words[programs[-1] + 1 :]
    yield from (shlex.split(found) for found in re.findall(r"`embedfleet ([^`]+)`", text))


def unit(name: str) -> str:
    return (ROOT / "deploy/systemd" / name).read_text()


def in_place(word: str, folder: Path) -> str:
    """A path of the guide, which is run in a checkout."""
    if word == "values.yaml":
        return str(folder / word)
    return str(ROOT / word) if word.startswith("deploy/") else word


def drained_after_start(process: subprocess.Popen[str]) -> None:
    """It says where it listens; then SIGTERM ends it in good order."""
    assert process.stdout is not None
    try:
        assert any(line.strip().startswith("API") for line in process.stdout), process.communicate()[1]
        process.send_signal(signal.SIGTERM)
        assert process.wait(HANG_SECONDS) == 0
    finally:
        process.kill()
        process.communicate()
