"""Settings: who wins, what is refused, and that the example file shows them all."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel, ValidationError

from embedfleet.errors import ConfigError
from embedfleet.job_manager import JobManagerConfig
from embedfleet.settings import (
    ModelSettings,
    RemoteSettings,
    Settings,
    TierSettings,
    load_settings,
    usual_config_file,
    with_pool_sizes,
)
from embedfleet.vectors.registry import store_kind

EXAMPLE = Path(__file__).parents[2] / "embeddings_config.yaml"
NOTHING: Mapping[str, str] = {}


def load(text: str, tmp_path: Path, **environ: str) -> Settings:
    file = tmp_path / "config.yaml"
    file.write_text(text, encoding="utf-8")
    return load_settings(file, environ=environ)


def refusal(text: str, tmp_path: Path, **environ: str) -> str:
    with pytest.raises(ConfigError) as refused:
        load(text, tmp_path, **environ)
    message = str(refused.value)
    assert "\n" not in message
    return message


class TestPrecedence:
    def test_without_sources_everything_has_its_default(self) -> None:
        assert load_settings(environ=NOTHING) == Settings()

    def test_a_flag_beats_the_environment_beats_the_file_beats_the_default(self, tmp_path: Path) -> None:
        text = "chunking: {chunk_size: 901, overlap: 101, batch_chunks: 11, unit: tokens}"
        file = tmp_path / "config.yaml"
        file.write_text(text)
        chunking = load_settings(
            file,
            environ={
                "EMBEDFLEET_CHUNKING__CHUNK_SIZE": "902",
                "EMBEDFLEET_CHUNKING__OVERLAP": "102",
            },
            overrides={"chunking": {"chunk_size": 903}},
        ).chunking
        assert (chunking.chunk_size, chunking.overlap, chunking.batch_chunks) == (903, 102, 11)
        assert (chunking.unit, chunking.method) == ("tokens", "recursive")

    def test_setting_one_field_of_a_pool_keeps_that_pools_other_defaults(self, tmp_path: Path) -> None:
        """The pools' defaults differ: chunking must not fall back to the class's."""
        pools = load("worker_pools: {chunking: {workers: 3}}", tmp_path).worker_pools
        default = Settings().worker_pools
        assert pools.chunking == default.chunking.model_copy(update={"workers": 3})
        assert (pools.embedding, pools.storage, pools.deletion) == (
            default.embedding,
            default.storage,
            default.deletion,
        )

    def test_setting_one_field_of_a_tier_keeps_everything_else(self, tmp_path: Path) -> None:
        tiers = load("tenants: {tiers: {free: {daily_chars: 5}}}", tmp_path).tenants.tiers
        default = Settings().tenants.tiers
        assert tiers["free"] == default["free"].model_copy(update={"daily_chars": 5})
        assert {name: tier for name, tier in tiers.items() if name != "free"} == {
            name: tier for name, tier in default.items() if name != "free"
        }

    @pytest.mark.parametrize(
        "text", ["", "# nothing but words\n", "chunking:\n", "worker_pools: {storage: }\n"]
    )
    def test_empty_files_and_sections_mean_the_defaults(self, tmp_path: Path, text: str) -> None:
        assert load(text, tmp_path) == Settings()

    def test_other_programs_environment_is_ignored(self) -> None:
        assert load_settings(environ={"CHUNKING__CHUNK_SIZE": "5", "PATH": "/bin"}) == Settings()

    def test_the_processes_environment_is_read_when_none_is_given(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("EMBEDFLEET_MODELS__THREADS", "3")
        assert load_settings().models.threads == 3

    def test_a_program_reads_the_file_that_every_command_reads(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
        own = usual_config_file()
        assert (load_settings(), JobManagerConfig().settings) == (Settings(), Settings())
        own.parent.mkdir()
        own.write_text("models: {threads: 4}")
        assert load_settings().models.threads == JobManagerConfig().settings.models.threads == 4
        named = tmp_path / "named.yaml"
        named.write_text("models: {threads: 5}")
        monkeypatch.setenv("EMBEDFLEET_CONFIG", str(named))
        assert load_settings().models.threads == JobManagerConfig().settings.models.threads == 5
        assert load_settings(own).models.threads == 4
        assert load_settings(Path(os.devnull)).models.threads == 0
        # A test sets both files aside with an environment of its own.
        assert load_settings(environ=NOTHING) == Settings()
        assert load_settings(environ={"EMBEDFLEET_CONFIG": str(named)}).models.threads == 5
        named.unlink()
        with pytest.raises(ConfigError, match=r"named\.yaml: cannot be read"):
            JobManagerConfig()

    def test_environment_values_have_the_types_of_yaml(self) -> None:
        settings = load_settings(
            environ={
                "EMBEDFLEET_MONITORING__LOG_JSON": "true",
                "EMBEDFLEET_WORKER_POOLS__STORAGE__LEASE_SECONDS": "2.5",
                "EMBEDFLEET_VECTOR_STORE__URL": "",
                "EMBEDFLEET_DATA_DIR": "007",  # a path stays as it was typed
            }
        )
        assert settings.monitoring.log_json is True
        assert settings.worker_pools.storage.lease_seconds == 2.5
        assert settings.vector_store.url is None
        assert settings.data_dir == Path("007")


class TestRefusals:
    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("chunkin: {}", "unknown setting `chunkin`: did you mean `chunking`?"),
            ("chunking: {chunksize: 5}", "unknown setting `chunking.chunksize`: did you mean `chunk_size`?"),
            (
                "worker_pools: {embeding: {}}",
                "unknown setting `worker_pools.embeding`: did you mean `embedding`?",
            ),
            (
                "worker_pools: {storage: {lease_second: 5}}",
                "unknown setting `worker_pools.storage.lease_second`: did you mean `lease_seconds`?",
            ),
            (
                "worker_pools: {storage: {devices: [cuda:0]}}",
                "unknown setting `worker_pools.storage.devices`",
            ),
            (
                "models: {catalogue: {mine: {backend: onnx, poling: cls}}}",
                "unknown setting `models.catalogue.mine.poling`: did you mean `pooling`?",
            ),
            (
                "models: {catalogue: {mine: {backend: remote, "
                "remote: {url: 'http://h', model: m, batch_text: 3}}}}",
                "unknown setting `models.catalogue.mine.remote.batch_text`: did you mean `batch_texts`?",
            ),
            (
                "tenants: {tiers: {free: {max_active_job: 5}}}",
                "unknown setting `tenants.tiers.free.max_active_job`: did you mean `max_active_jobs`?",
            ),
            ("auto_scaling: {xyz: 5}", "unknown setting `auto_scaling.xyz`: known are: enabled"),
        ],
    )
    def test_an_unknown_key_is_answered_with_the_nearest_known_at_every_depth(
        self, tmp_path: Path, text: str, words: str
    ) -> None:
        message = refusal(text, tmp_path)
        assert words in message
        assert str(tmp_path / "config.yaml") in message

    def test_an_unknown_tier_is_refused_with_the_known_ones(self, tmp_path: Path) -> None:
        message = refusal("tenants: {tiers: {gold: {weight: 3}}}", tmp_path)
        assert "tenants.tiers.gold" in message
        assert "'free', 'basic', 'premium' or 'enterprise'" in message

    @pytest.mark.parametrize(
        ("text", "path"),
        [
            ("chunking: {chunk_size: many}", "chunking.chunk_size"),
            ("chunking: {chunk_size: 0}", "chunking.chunk_size"),
            ("chunking: {unit: words}", "chunking.unit"),
            ("worker_pools: {embedding: {min_workers: 3, max_workers: 2}}", "worker_pools.embedding"),
            ("auto_scaling: {shrink_below_backlog_seconds: 60}", "auto_scaling"),
            ("orchestrator: {leader_lease_seconds: 1}", "orchestrator"),
            ("chunking: 5", "chunking"),
            ("chunking: [chunk_size]", "chunking"),
            ("monitoring: {metrics_port: 70000}", "monitoring.metrics_port"),
            ("worker_pools: {deletion: {workers: 1.5}}", "worker_pools.deletion.workers"),
            ("models: {catalogue: {mine: {}}}", "models.catalogue.mine.backend"),
            ("tenants: {tiers: {free: {weight: -1}}}", "tenants.tiers.free.weight"),
            ("tenants: {tiers: {free: 5}}", "tenants.tiers.free"),
            ("database: {busy_timeout_seconds: .nan}", "database.busy_timeout_seconds"),
            ("parsing: {timeout_seconds: .inf}", "parsing.timeout_seconds"),
            ("1: 2", "1"),
        ],
    )
    def test_a_wrong_value_is_named_by_its_path(self, tmp_path: Path, text: str, path: str) -> None:
        assert f"setting `{path}`" in refusal(text, tmp_path)

    def test_a_wrong_value_from_the_environment_is_named_as_one(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"EMBEDFLEET_CHUNKING__CHUNK_SIZE") as refused:
            load_settings(environ={"EMBEDFLEET_CHUNKING__CHUNK_SIZE": "many"})
        assert "\n" not in str(refused.value)

    def test_the_source_named_is_the_one_that_set_the_wrong_value(self, tmp_path: Path) -> None:
        file = tmp_path / "config.yaml"
        file.write_text("models: {threads: -1}\nchunking: {chunk_size: 5, overlap: 1}")
        with pytest.raises(ConfigError, match=r"config.yaml: setting `models.threads`"):
            load_settings(file, environ={"EMBEDFLEET_CHUNKING__CHUNK_SIZE": "6"})
        with pytest.raises(ConfigError, match=r"^EMBEDFLEET_MODELS__THREADS: setting"):
            load_settings(file, environ={"EMBEDFLEET_MODELS__THREADS": "-2"})
        with pytest.raises(ConfigError, match=r"^command line: setting"):
            load_settings(file, environ=NOTHING, overrides={"models": {"threads": -3}})

    @pytest.mark.parametrize("value", ["{", "a: b: c", "'"])
    def test_an_environment_value_that_is_no_yaml_is_named(self, value: str) -> None:
        with pytest.raises(ConfigError, match="EMBEDFLEET_DATABASE__URL"):
            load_settings(environ={"EMBEDFLEET_DATABASE__URL": value})

    def test_an_empty_data_directory_is_not_the_current_one(self) -> None:
        with pytest.raises(ConfigError, match="EMBEDFLEET_DATA_DIR"):
            load_settings(environ={"EMBEDFLEET_DATA_DIR": ""})

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("", (254, 32, "tokens")),
            ("chunking: {method: sentences}", (254, 32, "tokens")),
            ("chunking: {unit: tokens}", (254, 32, "tokens")),
            ("chunking: {unit: tokens, chunk_size: 100}", (100, 32, "tokens")),
            ("chunking: {chunk_size: 900}", (900, 200, "chars")),
            ("chunking: {overlap: 50}", (1000, 50, "chars")),
            ("chunking: {unit: chars}", (1000, 200, "chars")),
        ],
    )
    def test_sizes_without_a_unit_are_characters_and_nothing_said_is_the_best_in_tokens(
        self, text: str, expected: tuple[int, int, str], tmp_path: Path
    ) -> None:
        config = load(text, tmp_path).chunking.config
        assert (config.chunk_size, config.overlap, config.unit) == expected

    @pytest.mark.parametrize(
        ("text", "given", "expected"),
        [
            ("", {}, (254, 32, "tokens")),
            ("", {"chunk_size": 500}, (500, 100, "chars")),
            ("", {"chunk_size": 5000}, (5000, 200, "chars")),
            ("", {"unit": "tokens", "chunk_size": 100}, (100, 20, "tokens")),
            ("", {"unit": "chars"}, (1000, 200, "chars")),
            ("chunking: {unit: tokens}", {"chunk_size": 300}, (300, 32, "tokens")),
            ("chunking: {chunk_size: 900, overlap: 90}", {"chunk_size": 300}, (300, 60, "chars")),
        ],
    )
    def test_what_a_job_says_of_sizes_goes_before_what_the_settings_say(
        self, text: str, given: dict[str, Any], expected: tuple[int, int, str], tmp_path: Path
    ) -> None:
        config = load(text, tmp_path).chunking.changed(given)
        assert (config.chunk_size, config.overlap, config.unit) == expected

    def test_overlap_must_be_smaller_than_the_chunk(self, tmp_path: Path) -> None:
        message = refusal("chunking: {chunk_size: 100, overlap: 100}", tmp_path)
        assert "overlap (100) must be smaller than chunk_size (100)" in message
        assert load("chunking: {chunk_size: 100, overlap: 99}", tmp_path).chunking.overlap == 99

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("chunking: [", "not valid YAML"),
            ("a: b: c", "not valid YAML"),
            ("a: " + "[" * 5000, "nested too deeply"),
            ("\0", "not valid YAML"),
            ("!!python/object/apply:os.getcwd []", "not valid YAML"),
            ("- a\n- b", "must hold sections such as `chunking:`, not a list"),
            ("just words", "must hold sections such as `chunking:`, not a str"),
        ],
    )
    def test_a_file_that_is_no_configuration_is_refused_in_one_line(
        self, tmp_path: Path, text: str, reason: str
    ) -> None:
        assert reason in refusal(text, tmp_path)

    def test_a_data_directory_whose_name_is_not_utf8_is_refused(self) -> None:
        with pytest.raises(ConfigError, match=r"data_dir.*not valid UTF-8"):
            load_settings(Path(os.devnull), environ={"EMBEDFLEET_DATA_DIR": "/srv/\udcff"})

    def test_a_file_that_is_not_utf8_is_refused(self, tmp_path: Path) -> None:
        file = tmp_path / "config.yaml"
        file.write_bytes(b"# \xff\n")
        with pytest.raises(ConfigError, match="not valid YAML"):
            load_settings(file, environ=NOTHING)

    def test_a_file_that_cannot_be_read_is_refused_with_the_reason(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"none.yaml: cannot be read \(No such file or directory\)"):
            load_settings(tmp_path / "none.yaml", environ=NOTHING)
        with pytest.raises(ConfigError, match="cannot be read"):
            load_settings(tmp_path, environ=NOTHING)


class TestSafety:
    def test_secrets_are_masked_wherever_settings_are_shown(self, tmp_path: Path) -> None:
        settings = load(
            "database: {url: 'postgresql://u:hunter2@db/x'}\nredis: {url: 'redis://:hunter2@r'}", tmp_path
        )
        for shown in (repr(settings), str(settings), settings.model_dump_json(), str(settings.model_dump())):
            assert "hunter2" not in shown
        assert settings.database_url == "postgresql://u:hunter2@db/x"

    def test_a_refused_secret_is_not_shown(self, tmp_path: Path) -> None:
        assert "hunter2" not in refusal("database: {url: [hunter2]}", tmp_path)
        assert "hunter2" not in refusal("redis: {url: {password: hunter2}}", tmp_path)
        assert "hunter2" not in refusal("database: {url: 5, urll: hunter2}", tmp_path)
        assert "hunter2" not in refusal("database: {url: hunter2: x: y}", tmp_path)
        assert "hunter2" not in refusal("", tmp_path, EMBEDFLEET_REDIS__URL="hunter2: x: y")
        for url in ("http://u:hunter2@h/v1", "hunter2", "http://h/v1?key=hunter2"):
            remote = f"{{backend: remote, remote: {{model: m, url: '{url}'}}}}"
            assert "hunter2" not in refusal(f"models: {{catalogue: {{mine: {remote}}}}}", tmp_path)
        keyed = "{backend: remote, remote: {model: m, url: 'http://h', api_key: 'sk hunter2'}}"
        message = refusal(f"models: {{catalogue: {{mine: {keyed}}}}}", tmp_path)
        assert "api_key has characters that no header can hold" in message
        assert "hunter2" not in message

    def test_settings_cannot_be_changed(self) -> None:
        settings = Settings()
        with pytest.raises(ValidationError, match="frozen"):
            settings.chunking.chunk_size = 5

    def test_everything_lives_in_the_data_directory_unless_said_otherwise(self, tmp_path: Path) -> None:
        settings = load_settings(environ=NOTHING, overrides={"data_dir": tmp_path})
        assert settings.database_url == f"sqlite:///{tmp_path / 'embedfleet.db'}"
        assert store_kind(settings.vector_store.kind).own_directory(settings) == tmp_path / "chroma"


def fields_of(section: type[BaseModel]) -> dict[str, Any]:
    """The names of all settings below a section; None for a leaf."""
    return {
        name: fields_of(field.annotation)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        else None
        for name, field in section.model_fields.items()
    }


def paths_in(fields: Mapping[str, Any], above: str = "") -> set[str]:
    paths: set[str] = set()
    for name, below in fields.items():
        path = f"{above}{name}"
        paths |= paths_in(below, f"{path}.") if isinstance(below, Mapping) and below else {path}
    return paths


class TestExampleFile:
    def test_it_sets_every_setting_to_its_default(self) -> None:
        assert load_settings(EXAMPLE, environ=NOTHING) == Settings()

    def test_every_setting_is_in_it_and_nothing_else(self) -> None:
        written = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))
        tiers = written["tenants"].pop("tiers")
        expected = paths_in(fields_of(Settings)) - {"data_dir", "tenants.tiers"}
        assert paths_in(written) == expected
        assert set(tiers) == set(Settings().tenants.tiers)
        for tier in tiers.values():
            assert set(tier) == set(TierSettings.model_fields)

    def test_the_commented_parts_are_right_too(self, tmp_path: Path) -> None:
        """`data_dir` differs from machine to machine, and an entry of the catalogue is nobody's default."""
        text = EXAMPLE.read_text(encoding="utf-8").replace("  catalogue: {}\n", "")
        text = text.replace("# data_dir:", "data_dir:")
        start, end = text.index("  # catalogue:"), text.index("# How documents are cut")
        shown = re.sub(r"^  # ", "  ", text[start:end], flags=re.MULTILINE)
        settings = load(text[:start] + shown + text[end:], tmp_path)

        assert settings.data_dir == Path("/var/lib/embedfleet")
        entry = settings.models.catalogue["my-model"]
        assert entry == ModelSettings(backend="onnx")
        assert entry.model_fields_set == set(ModelSettings.model_fields)
        remote = settings.models.catalogue["my_server"].remote
        assert remote is not None
        assert remote == RemoteSettings(url="https://api.openai.com/v1", model="text-embedding-3-small")
        assert remote.model_fields_set == set(RemoteSettings.model_fields)

    def test_no_setting_of_ours_is_in_the_environment_of_these_tests(self) -> None:
        assert not [name for name in os.environ if name.startswith("EMBEDFLEET_")]


class TestPoolSizes:
    def test_a_size_given_by_hand_moves_the_limits_of_auto_scaling_out_of_its_way(self) -> None:
        sized = with_pool_sizes(Settings(), {"embedding": 12, "storage": 0}).worker_pools
        assert (sized.embedding.workers, sized.embedding.max_workers) == (12, 12)
        storage = sized.storage
        assert (storage.workers, storage.min_workers, storage.max_workers) == (0, 0, 0), "none at all"
        assert sized.chunking == Settings().worker_pools.chunking

    @pytest.mark.parametrize(
        ("sizes", "words"),
        [({"embeding": 1}, "did you mean `embedding`"), ({"storage": 5000}, "it must be 0 to 1024")],
    )
    def test_what_cannot_be_is_refused(self, sizes: dict[str, int], words: str) -> None:
        with pytest.raises(ConfigError, match=words):
            with_pool_sizes(Settings(), sizes)


class TestTravelling:
    def test_settings_arrive_at_a_worker_process_as_they_left_secrets_included(self) -> None:
        settings = load_settings(
            environ={
                "EMBEDFLEET_REDIS__URL": "redis://:hunter2@db:6379/1",
                "EMBEDFLEET_DATA_DIR": "/somewhere",
                "EMBEDFLEET_WORKER_POOLS__EMBEDDING__DEVICES": "[cuda:0, cuda:1]",
            }
        )
        assert Settings.from_json(settings.to_json()) == settings
        assert "hunter2" not in repr(settings)
