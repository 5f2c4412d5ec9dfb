"""No message and no place in words holds a part of a URL's password, encoded or not."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import SecretStr

from embedfleet.client.server import Server
from embedfleet.errors import ConfigError, InvalidRequest
from embedfleet.queue.redis_endpoint import parse_endpoint
from embedfleet.settings import EventsSettings, RedisSettings, RemoteSettings, VectorStoreSettings
from embedfleet.sql.database import Database
from embedfleet.vectors.server_address import ServerAddress

SECRET = "Tr0ub4dor"
# The secret word with special characters around it, as a password generator makes them.
passwords = st.lists(st.sampled_from("@/#%?:[]&=+ "), max_size=3).flatmap(
    lambda marks: st.permutations([*marks, SECRET, SECRET]).map("".join)
)


def _redis(url: str) -> str:
    endpoint = parse_endpoint(RedisSettings(url=SecretStr(url)))
    return f"{endpoint} {endpoint!r}"


def _chroma(url: str) -> str:
    address = ServerAddress.parse(url, {})
    return f"{address.url} {address!r} {VectorStoreSettings(url=url)!r}"


def _webhook(url: str) -> str:
    return repr(EventsSettings(webhook_url=SecretStr(url)))


FORMS: list[tuple[str, Callable[[str], str]]] = [
    ("redis://u:{}@h:6379/0", _redis),
    ("redis+sentinel://u:{}@h/service/0", _redis),
    ("redis+cluster://u:{}@h,i", _redis),
    ("unix://u:{}@/run/redis.sock", _redis),
    ("postgresql://u:{}@h/db", lambda url: Database(url).location),
    ("http://u:{}@h:8000", _chroma),
    ("https://u:{}@h/hook", _webhook),
]


@pytest.mark.parametrize(("form", "said"), FORMS)
@given(password=passwords)
def test_no_part_of_a_password_is_said(form: str, said: Callable[[str], str], password: str) -> None:
    try:
        words = said(form.format(password))
    except ConfigError as exc:
        words = str(exc)
    assert SECRET not in words
    assert SECRET not in said(form.format(quote(password, safe="")))


@pytest.mark.parametrize(("form", "said"), FORMS)
@pytest.mark.parametrize("password", ["p@ss", "p/ss@x", "p#ss", "p%ss"])
def test_a_password_that_is_not_encoded_is_refused_and_the_message_says_how(
    form: str, said: Callable[[str], str], password: str
) -> None:
    with pytest.raises(ConfigError, match="percent-encode"):
        said(form.format(password))


@given(password=passwords)
@example(password="@[Tr0ub4dor]Tr0ub4dor")
def test_a_model_servers_url_holds_no_password_however_it_is_written(password: str) -> None:
    """It is shown in messages, so that a password in it is refused. The key of the server is `api_key`."""
    with pytest.raises(ConfigError) as refused:
        RemoteSettings(url=f"https://u:{password}@h/v1", model="m")
    assert SECRET not in str(refused.value)


@given(password=passwords)
def test_the_address_of_an_api_server_holds_no_password(password: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        Server(f"https://u:{password}@h/v1")
    assert SECRET not in str(refused.value)
