"""`embedfleet models`: listed, added, warmed, measured and removed, typed, beside a hub on this machine."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from time import time

import pytest
from huggingface_hub import constants

from embedfleet.inference.catalogue import Catalogue
from embedfleet.inference.model_files import bundled_tokenizer, find_bundled_minilm, find_bundled_static
from embedfleet.model_switching import orders
from embedfleet.settings import load_settings
from embedfleet.sql.opening import open_database
from support.command import Command, Result, finish
from support.hangs import eventually
from support.hub import Hub, Repository

MINILM, STATIC = "sentence-transformers/all-MiniLM-L6-v2", "minishlab/potion"
MINILM_COMMIT, STATIC_COMMIT = "8b3219a92973c328a8e22fadcfa821b5dc75636a", "0123456789" * 4
_POOLING = {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}
_TRANSFORMER = [{"type": "sentence_transformers.models.Transformer"}]
NEEDED: dict[str, Path | bytes] = {
    "onnx/model.onnx": find_bundled_minilm().weights[0],
    "tokenizer.json": bundled_tokenizer(),
    "config.json": b'{"hidden_size": 384, "max_position_embeddings": 512}',
    "sentence_bert_config.json": b'{"max_seq_length": 256}',
    "modules.json": json.dumps(_TRANSFORMER).encode(),
    "1_Pooling/config.json": json.dumps(_POOLING).encode(),
}
NOT_NEEDED: dict[str, Path | bytes] = {
    "README.md": b"# A model",
    "model.safetensors": b"for torch",
    "onnx/model_O4.onnx": b"for somebody else",
    "tf_model.h5": b"for nobody",
}
_FILE = "/{repo_id}/resolve/{revision}/{filename}"
BY_HAND = """\
# Ann looks after this file.
models:
  threads: 2   # leave some to others
  catalogue:
    # For the tests.
    ours: {backend: stub, dim: 32}

# Cut small.
chunking:
  chunk_size: 400
  overlap: 0
"""


@dataclass(frozen=True, slots=True)
class Bench:
    """The command with a settings file of its own, and the only hub it knows."""

    command: Command
    hub: Hub

    @property
    def config(self) -> Path:
        return self.command.folder / "settings.yaml"

    @property
    def environment(self) -> dict[str, str]:
        folder = self.command.folder
        return {
            **self.hub.environment,
            "HF_HOME": str(folder / "hf"),
            "EMBEDFLEET_CONFIG": str(self.config),
            "EMBEDFLEET_MODELS__CACHE_DIR": str(folder / "kept"),
            # One known figure instead of seconds of measuring; one test measures.
            "EMBEDFLEET_MODELS__MICROBATCH_TOKENS": "2048",
        }

    def models(self, *arguments: str, **environment: str) -> Result:
        return self.command.run("models", *arguments, env={**self.environment, **environment})

    def typed(self, *arguments: str) -> Result:
        """The same in this process: for what loads no model."""
        with pytest.MonkeyPatch.context() as patch:
            at = self.environment["HF_ENDPOINT"]  # read when the library is imported
            patch.setattr(constants, "ENDPOINT", at)
            patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", at + _FILE)
            patch.setattr(constants, "HF_HUB_CACHE", str(self.command.folder / "hf" / "hub"))
            return self.command.typed("models", *arguments, env=self.environment)


@pytest.fixture
def bench(command: Command) -> Iterator[Bench]:
    static = find_bundled_static()
    repositories = {
        MINILM: Repository(MINILM_COMMIT, {**NEEDED, **NOT_NEEDED}),
        STATIC: Repository(
            STATIC_COMMIT,
            {
                "model.safetensors": static.weights[0],
                "tokenizer.json": static.tokenizer,
                "config.json": b"{}",
                "README.md": b"# A table",
            },
        ),
    }
    (command.folder / "settings.yaml").touch()
    with Hub(repositories) as hub:
        yield Bench(command, hub)


# --- list ------------------------------------------------------------------------------------------


def test_the_list_describes_each_model_in_json(bench: Bench) -> None:
    bench.config.write_text("models: {catalogue: {gone: {backend: onnx, path: /nowhere}}}")
    alone, listed = bench.models("--json"), bench.typed("list", "--json")
    assert alone.document == listed.document
    rows = {row["name"]: row for row in alone.document["models"]}
    assert list(rows) == ["gone", "minilm", "static", "stub"]
    common = {"name", "default", "built_in", "backend", "devices", "loaded", "description", "available"}
    there = common | {"dim", "max_tokens", "size_bytes", "space"}
    assert [set(rows[name]) for name in ("minilm", "gone")] == [there, common | {"reason"}]
    assert [name for name, row in rows.items() if row["default"]] == ["stub"]
    assert (rows["gone"]["built_in"], rows["stub"]["built_in"]) == (False, True)
    assert rows["minilm"]["loaded"] is False
    assert not bench.command.data_dir.exists()

    lines = bench.typed().stdout.splitlines()
    assert lines[0].split() == [
        "model",
        "backend",
        "size",
        "dim",
        "tokens",
        "devices",
        "loaded",
        "description",
    ]
    assert [line[0] for line in lines[1:5]] == [" ", " ", " ", "*"]
    assert "not available: model `gone`: /nowhere/model.onnx: missing" in lines[-1]


def test_the_list_loads_no_model_library(command: Command) -> None:
    heavy = "torch onnxruntime model2vec tokenizers chromadb"
    program = (
        "import sys; sys.argv = ['embedfleet', 'models']\n"
        "from embedfleet.cli import main\n"
        "try: main()\n"
        f"finally: print([m for m in '{heavy}'.split() if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=command.environment()
    )
    assert (done.returncode, done.stderr) == (0, "[]\n")


def test_the_list_knows_what_a_running_orchestrator_has_loaded(bench: Bench, corpus: Path) -> None:
    quick = {"EMBEDFLEET_ORCHESTRATOR__HEARTBEAT_SECONDS": "0.1", "EMBEDFLEET_MODELS__DEFAULT": "ours"}
    bench.config.write_text(BY_HAND)
    process = bench.command.start("serve-workers", env={**bench.environment, **quick})
    try:
        assert process.stdout is not None
        assert any(line.startswith("ready") for line in process.stdout), finish(process)
        assert bench.command.run("ingest", corpus, env={**bench.environment, **quick}).code == 0

        def loaded() -> dict[str, bool]:
            return {row["name"]: row["loaded"] for row in bench.typed("--json").document["models"]}

        eventually(lambda: loaded()["ours"], what="the model in the list")
        assert loaded() == {"minilm": False, "ours": True, "static": False, "stub": False}
    finally:
        process.kill()
        process.communicate()


# --- add -------------------------------------------------------------------------------------------


def test_a_model_of_the_hub_is_fetched_pinned_and_written_below_what_was_there(bench: Bench) -> None:
    bench.config.write_text(BY_HAND)
    bench.config.chmod(0o640)
    added = bench.models("add", "e5", "--backend", "onnx", "--hub", MINILM, "--query-prefix", "query: ")
    assert (added.code, added.stderr) == (0, "")
    assert "384 dimensions" in added.stdout
    assert sorted(bench.hub.fetched) == sorted(f"{MINILM}/{name}" for name in NEEDED)
    entry = (
        f"    e5:\n      backend: onnx\n      hub: {MINILM}\n      revision: {MINILM_COMMIT}\n"
        "      query_prefix: 'query: '\n"
    )
    assert bench.config.read_text() == BY_HAND.replace("dim: 32}\n", "dim: 32}\n" + entry)
    assert bench.config.stat().st_mode & 0o777 == 0o640

    again = bench.typed("add", "small", "--backend=static", "--hub", STATIC, "--json")
    assert again.code == 0, again.stderr
    assert set(again.document) == {"schema_version", "model", "config", "replaced", "warnings", "hint"}
    assert again.document["model"]["revision"] == STATIC_COMMIT
    assert f"dim: 32}}\n{entry}    small:\n" in bench.config.read_text()
    fetched = len(bench.hub.fetched)
    rows = {row["name"]: row for row in bench.typed("--json").document["models"]}
    assert len(bench.hub.fetched) == fetched
    assert (rows["e5"]["dim"], rows["small"]["dim"]) == (384, 256)
    assert rows["e5"]["max_tokens"] == 256 - 2 - len("query:")


def test_without_any_file_the_users_own_is_made_and_read_from_then_on(bench: Bench) -> None:
    own = bench.command.folder / "config" / "embedfleet" / "embeddings_config.yaml"
    added = bench.command.run("models", "add", "ours", "--backend", "stub", "--dim", "16")
    assert added.code == 0, added.stderr
    assert f"written in {own}" in added.stdout
    assert f"{own} is new" in added.stdout
    listed = bench.command.run("models", "--json").document["models"]
    assert [row["dim"] for row in listed if row["name"] == "ours"] == [16]


def test_an_entry_is_replaced_only_when_asked_and_a_new_space_is_said(bench: Bench) -> None:
    bench.config.write_text(BY_HAND)
    refused = bench.typed("add", "ours", "--backend", "stub")
    assert (refused.code, refused.stdout) == (1, "")
    assert refused.stderr.count("\n") == 1
    assert "there is a model `ours` already" in refused.stderr
    assert bench.config.read_text() == BY_HAND

    same = bench.typed("add", "ours", "--backend=stub", "--dim=32", "--description=x", "--replace")
    assert (same.code, same.stderr) == (0, "")
    other = bench.typed("add", "ours", "--backend", "stub", "--dim", "64", "--replace", "--json")
    assert other.document["replaced"] is True
    assert "has another space now" in other.stderr
    assert len(other.document["warnings"]) == 1
    assert "# Cut small." in bench.config.read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a b", "--backend=stub"], "`a b` is no name for a model"),
        (["x"], "say what runs the model"),
        (["x", "--backend=onix"], "did you mean `onnx`?"),
        (["x", "--backend=stub", "--dim=0"], "greater than or equal to 1"),
        (["x", "--backend=onnx", "--pooling=max"], "should be 'mean', 'cls' or 'last'"),
        (["x", "--backend=onnx", "--path=/nowhere"], "/nowhere/model.onnx: missing"),
        (["x", "--backend=onnx", "--path=/a", "--hub=a/b"], "--path or --hub, not both"),
        (["x", "--backend=onnx", "--revision=1"], "--revision goes with --hub"),
        (["x", "--backend=onnx", "--hub=a//b"], "is no Hugging Face id"),
        (
            ["x", "--backend=onnx", "--hub=nobody/nothing"],
            "nobody/nothing: no such model on http://127.0.0.1",
        ),
        (["x", "--backend=onnx", f"--hub={MINILM}", "--revision=v9"], "has no revision `v9`"),
        (["x", "--backend=onnx", f"--hub={MINILM}", "--weights-file=onnx/no.onnx"], "no.onnx: missing"),
        (["x", "--backend=static", f"--hub={MINILM}"], "not a safetensors file"),
        (["x", "--backend=stub", "--url=http://h/v1"], "go with `--backend remote`"),
        (["x", "--url=ftp://h", "--remote-model=m"], "url must be http"),
        (["minilm", "--backend=stub"], "there is a model `minilm` already (built in)"),
    ],
)
def test_an_impossible_entry_is_refused_in_one_line_and_nothing_is_written(
    bench: Bench, arguments: list[str], message: str
) -> None:
    bench.config.write_text(BY_HAND)
    refused = bench.typed("add", *arguments)
    assert (refused.code, refused.stdout) == (1, "")
    assert message in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert bench.config.read_text() == BY_HAND


def test_a_server_is_added_with_the_name_of_its_keys_variable_and_not_the_key(bench: Bench) -> None:
    text = "{remote: {url: 'http://h/v1', model: m, api_key_env: A_KEY}, backend: remote, dim: 8}"
    bench.config.write_text(f"models:\n  catalogue:\n    far: {text}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("A_KEY", "s3cret")
        remote = load_settings(bench.config, environ={}).models.catalogue["far"].remote
    assert remote is not None
    assert remote.api_key is not None
    assert remote.api_key.get_secret_value() == "s3cret"
    assert "s3cret" not in repr(remote)


def test_a_file_that_was_named_is_made_where_it_was_named(bench: Bench) -> None:
    bench.config.unlink()
    added = bench.typed("add", "ours", "--backend=stub")
    assert "read it" in added.stdout, added.stderr
    other = bench.command.folder / "other" / "settings.yaml"
    added = bench.typed("add", "ours", "--backend=stub", "--config", str(other))
    assert "name it with --config" in added.stdout, added.stderr
    assert other.read_text() == bench.config.read_text()


# --- warm and bench --------------------------------------------------------------------------------


def test_warming_fetches_loads_and_measures_and_one_failure_is_said_beside_the_others(bench: Bench) -> None:
    entries = {
        "e5": {"backend": "onnx", "hub": MINILM},
        "gone": {"backend": "onnx", "hub": "nobody/nothing"},
    }
    bench.config.write_text(json.dumps({"models": {"catalogue": entries, "microbatch_tokens": None}}))
    del_fixed = {"EMBEDFLEET_MODELS__MICROBATCH_TOKENS": "null"}
    warmed = bench.models("warm", "--json", **del_fixed)
    assert warmed.code == 3, warmed.stderr
    rows = {row["name"]: row for row in warmed.document["models"]}
    assert list(rows) == ["stub", "e5", "gone"], "the default and those of the file"
    assert set(rows["e5"]) == {
        "name",
        "downloaded",
        "error",
        "load_seconds",
        "devices",
        "threads",
        "microbatch_tokens",
        "dim",
        "space",
    }
    assert (rows["e5"]["downloaded"], rows["e5"]["devices"], rows["e5"]["dim"]) == (True, ["cpu"], 384)
    assert "no such model" in rows["gone"]["error"]
    kept = sorted(file.suffix for file in (bench.command.folder / "kept").iterdir())
    assert kept == [".json", ".json", ".onnx"], "two calibrations and a graph"

    again = bench.models("warm", "e5", "--json", HF_ENDPOINT="http://127.0.0.1:9", **del_fixed)
    assert again.code == 0, again.stderr
    (row,) = again.document["models"]
    assert (row["downloaded"], row["microbatch_tokens"]) == (False, rows["e5"]["microbatch_tokens"])

    removed = bench.typed("remove", "e5", "--files", "--json")
    assert removed.code == 1, "JSON is one line in braces"
    assert "written in a way that only a person can change" in removed.document["error"]


def test_warming_nothing_but_failures_is_a_failure(bench: Bench) -> None:
    failed = bench.typed("warm", "nope")
    assert (failed.code, failed.stdout) == (1, "")
    assert "no model `nope` in the catalogue" in failed.stderr
    bench.config.write_text("models: {catalogue: {gone: {backend: onnx, hub: nobody/nothing}}}")
    failed = bench.models("warm", "gone", HF_ENDPOINT="http://127.0.0.1:9")
    assert (failed.code, failed.stdout) == (1, "")
    assert "cannot be downloaded from http://127.0.0.1:9" in failed.stderr
    assert failed.stderr.count("\n") == 1


def test_the_bench_measures_bulk_and_queries_on_a_text_of_ones_own(bench: Bench) -> None:
    text = bench.command.folder / "text.txt"
    text.write_text("One sentence of nine words, all of them short. " * 500)
    measured = bench.models("bench", "static", "stub", "--seconds", "0.3", "--file", str(text), "--json")
    assert measured.code == 0, measured.stderr
    assert [row["name"] for row in measured.document["models"]] == ["static", "stub"]
    for row in measured.document["models"]:
        assert set(row) == {
            "name",
            "devices",
            "threads",
            "microbatch_tokens",
            "load_seconds",
            "tokens_per_chunk",
            "chunks_per_second",
            "tokens_per_second",
            "padding_share",
            "seconds",
            "query_p50_ms",
            "query_p95_ms",
            "queries",
        }
        per_chunk = row["tokens_per_second"] / row["chunks_per_second"]
        assert per_chunk == pytest.approx(row["tokens_per_chunk"], rel=0.01)
        assert 0 < row["query_p50_ms"] <= row["query_p95_ms"]
        assert row["padding_share"] == 0, "neither of the two pads"
    missing = bench.typed("bench", "stub", "--file", "missing.txt")
    assert (missing.code, missing.stderr.count("\n")) == (1, 1)


# --- remove ----------------------------------------------------------------------------------------


def test_a_model_of_documents_is_not_removed_unless_forced(bench: Bench, corpus: Path) -> None:
    bench.config.write_text(BY_HAND)
    ingested = bench.command.typed("ingest", corpus, "--model", "ours", env=bench.environment)
    assert ingested.code == 0, ingested.stderr
    refused = bench.typed("remove", "ours")
    assert (refused.code, refused.stdout) == (1, "")
    assert "`ours` is the model of documents of local (2)" in refused.stderr
    assert bench.config.read_text() == BY_HAND

    forced = bench.typed("remove", "ours", "--force", "--json")
    assert forced.code == 0, forced.stderr
    assert forced.document["removed"] == "ours"
    assert bench.config.read_text() == BY_HAND.replace("    ours: {backend: stub, dim: 32}\n", "")


def test_a_model_that_a_tenant_would_get_is_not_removed(bench: Bench) -> None:
    bench.config.write_text(BY_HAND)
    command, environment = bench.command, bench.environment
    # A tenant without documents only gets the model, and another one has a rule.
    assert (
        command.typed("models", "switch", "--tenant", "ann", "--to", "ours", "--yes", env=environment).code
        == 0
    )
    rules = "[{model: ours, content_types: [code]}]"
    assert command.typed("models", "route", "set", "--tenant", "ben", rules, env=environment).code == 0
    refused = bench.typed("remove", "ours")
    assert (refused.code, refused.stdout) == (1, "")
    assert "`ours` is chosen for what ann, ben will submit" in refused.stderr
    assert bench.config.read_text() == BY_HAND
    assert (
        command.typed("models", "switch", "--tenant", "ann", "--to", "stub", "--yes", env=environment).code
        == 0
    )
    assert command.typed("models", "route", "clear", "--tenant", "ben", env=environment).code == 0
    assert bench.typed("remove", "ours").code == 0


def test_a_model_to_which_a_tenant_is_being_switched_is_not_removed(bench: Bench, corpus: Path) -> None:
    bench.config.write_text(BY_HAND)
    assert bench.command.typed("ingest", corpus, env=bench.environment).code == 0
    settings = load_settings(
        bench.config, environ=bench.environment, overrides={"data_dir": bench.command.data_dir}
    )

    async def begin() -> None:
        database = open_database(settings)
        await database.open()
        try:
            info = Catalogue(settings.models).info("ours")
            await database.write(lambda conn: orders.begin(conn, ["local"], orders.Wanted(info), time()))
        finally:
            await database.close()

    asyncio.run(begin())
    refused = bench.typed("remove", "ours")
    assert refused.code == 1
    assert (
        "`ours` is in the switch or the comparison under way of local: retire or end that first"
        in refused.stderr
    )


def test_a_file_that_is_far_too_long_for_rules_is_not_read_for_minutes(bench: Bench) -> None:
    bench.config.write_text(BY_HAND)
    rules = bench.command.folder / "rules.yaml"
    rules.write_text("- {model: ours, content_types: [code]}\n" * 20_000)
    refused = bench.command.typed("models", "route", "set", f"@{rules}", env=bench.environment)
    assert refused.code == 2
    assert "rules have at most 500,000: leave some out" in " ".join(refused.stderr.split())


def test_the_files_of_a_removed_model_are_deleted_on_request(bench: Bench) -> None:
    bench.config.write_text(BY_HAND)
    assert bench.typed("add", "e5", "--backend", "onnx", "--hub", MINILM).code == 0
    assert bench.models("warm", "e5").code == 0
    snapshots = bench.command.folder / "hf" / "hub"
    assert list(snapshots.rglob("model.onnx"))
    removed = bench.typed("remove", "e5", "--files", "--json")
    assert removed.code == 0, removed.stderr
    assert removed.document["freed_bytes"] > 2 * find_bundled_minilm().size_bytes
    assert not list(snapshots.rglob("model.onnx"))
    assert not list((bench.command.folder / "kept").iterdir())
    assert bench.config.read_text() == BY_HAND


def test_built_in_default_and_unknown_models_are_not_removed(bench: Bench) -> None:
    bench.config.write_text(BY_HAND)
    for name, message in {
        "static": "`static` is built in",
        "oors": "did you mean `ours`?",
    }.items():
        refused = bench.typed("remove", name)
        assert (refused.code, refused.stderr.count("\n")) == (1, 1)
        assert message in refused.stderr
    refused = replace(bench, command=replace(bench.command, model="ours")).typed("remove", "ours")
    assert "`ours` is in models.default" in refused.stderr
    assert "    ours:" in bench.config.read_text()


# --- doctor ----------------------------------------------------------------------------------------


def test_the_doctor_names_a_model_whose_files_are_missing(bench: Bench) -> None:
    bench.config.write_text("models: {catalogue: {e5: {backend: onnx, hub: nobody/nothing}}}")
    examined = bench.command.run("doctor", "--json", env=bench.environment)
    (finding,) = [one for one in examined.document["findings"] if one["check"] == "models"]
    assert (examined.code, finding["ok"]) == (1, False)
    assert "model `e5`: nobody/nothing is not on this machine: download it" in finding["detail"]
    assert "(run `embedfleet models warm`)" in finding["detail"]
