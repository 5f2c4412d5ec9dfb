"""URLs of Redis: every form is understood, every mistake is named, no secret is ever shown."""

from __future__ import annotations

from typing import Any

import pytest

from embedfleet.errors import ConfigError
from embedfleet.queue.redis_endpoint import Endpoint, parse_endpoint
from embedfleet.settings import load_settings
from support.redis_server import redis_settings


def parse(url: str, **more: Any) -> Endpoint:
    return parse_endpoint(redis_settings(url, **more))


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("redis://db", Endpoint(kind="server", tls=False, hosts=(("db", 6379),))),
        ("rediss://db:7000/3", Endpoint(kind="server", tls=True, hosts=(("db", 7000),), db=3)),
        ("redis://[::1]:7000", Endpoint(kind="server", tls=False, hosts=(("::1", 7000),))),
        ("unix:///run/redis.sock", Endpoint(kind="socket", tls=False, path="/run/redis.sock")),
        ("unix:///run/redis.sock?db=2", Endpoint(kind="socket", tls=False, path="/run/redis.sock", db=2)),
        (
            "redis+sentinel://a,b:7000/main/1",
            Endpoint(kind="sentinel", tls=False, hosts=(("a", 26379), ("b", 7000)), service="main", db=1),
        ),
        (
            "rediss+cluster://a,b:7000",
            Endpoint(kind="cluster", tls=True, hosts=(("a", 6379), ("b", 7000))),
        ),
    ],
)
def test_every_form_is_understood(url: str, endpoint: Endpoint) -> None:
    assert parse(url) == endpoint


def test_credentials_in_the_url_are_percent_decoded() -> None:
    endpoint = parse("redis://us%40er:p%2Fw%3A%40@db")
    assert (endpoint.username, endpoint.password) == ("us@er", "p/w:@")
    assert parse("unix://:p%2Fw@/run/s").password == "p/w"
    assert parse("redis+cluster://:pw@a,b").password == "pw"


def test_credentials_of_their_own_go_before_those_in_the_url() -> None:
    endpoint = parse("redis://user:pw@db", username="other", password="secret")
    assert (endpoint.username, endpoint.password) == ("other", "secret")


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("http://db", "begins with"),
        ("", "begins with"),
        ("redis://", "names no host"),
        ("redis://db:port", "cannot be read"),
        ("redis://db:99999", "cannot be read"),
        ("redis://[::1", "URL"),
        ("redis://a,b", "several hosts"),
        ("redis://db/main", "number of the database"),
        ("redis://db?ssl=no", "unknown option 'ssl'"),
        ("unix://", "names no socket"),
        ("redis+sentinel://a", "names no service"),
        ("redis+cluster://a/1", "only database 0"),
    ],
)
def test_a_url_that_cannot_be_right_is_refused(url: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=r"redis\.url") as refused:
        parse(url)
    assert hint in str(refused.value)


@pytest.mark.parametrize(
    "url", ["http://user:hunter2@db", "redis://user:hunter2@db:port", "redis://:hunter2@[::1"]
)
def test_a_refusal_does_not_show_the_password(url: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse(url)
    assert "hunter2" not in str(refused.value)


def test_secrets_are_masked() -> None:
    options = redis_settings("redis://user:hunter2@db", password="hunter3", sentinel_password="hunter4")
    shown = f"{options!r} {parse_endpoint(options)!r} {parse_endpoint(options)}"
    assert "hunter" not in shown


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("key_prefix", ""),
        ("key_prefix", "a}b"),
        ("key_prefix", "a b"),
        ("max_connections", 1),
        ("connect_timeout_seconds", 0),
        ("socket_timeout_seconds", float("nan")),
    ],
)
def test_options_that_cannot_be_right_are_refused(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"redis\.{field}"):
        load_settings(environ={}, overrides={"redis": {"url": "redis://db", field: value}})
