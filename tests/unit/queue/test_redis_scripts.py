"""Each script's header, its code and its wrapper say the same."""

from __future__ import annotations

import inspect
import re
from importlib.resources import files

import pytest

from embedfleet.queue.keys import KEY_TYPES
from embedfleet.queue.redis_scripts import StageScripts, load_script

FOLDER = files("embedfleet.queue").joinpath("lua")
SOURCES = {path.name.removesuffix(".lua"): path.read_text(encoding="utf-8") for path in FOLDER.iterdir()}
SCRIPTS = sorted(name for name in SOURCES if not name.startswith("_"))
FRAGMENTS = sorted(name for name in SOURCES if name.startswith("_"))

a_script = pytest.mark.parametrize("name", SCRIPTS)


def header(name: str) -> str:
    return SOURCES[name].partition("\n\n")[0]


def without_comments(source: str) -> str:
    return re.sub(r"--.*", "", source)


def test_every_wrapper_has_its_script_and_every_script_its_wrapper() -> None:
    wrappers = [name for name, _ in inspect.getmembers(StageScripts, inspect.iscoroutinefunction)]
    assert sorted(name for name in wrappers if not name.startswith("_")) == SCRIPTS


@a_script
def test_the_wrapper_takes_what_the_header_declares(name: str) -> None:
    taken = list(inspect.signature(getattr(StageScripts, name)).parameters)[1:]
    if "mailbox" in taken:  # no argument of the script, as it names the key
        taken.remove("mailbox")
        assert load_script(name).keys == ("answers",)
    assert ["now", *taken] == ["now", *(one for one in load_script(name).arguments if one != "now")]


@a_script
def test_the_code_uses_every_declared_argument_and_no_other(name: str) -> None:
    declared = re.findall(r"^-- ARGV\[(\d+)(\.\.)?\]", header(name), re.MULTILINE)
    assert [int(number) for number, _ in declared] == list(range(1, len(declared) + 1))
    used = {int(number) for number in re.findall(r"ARGV\[(\d+)\]", without_comments(SOURCES[name]))}
    fixed = {int(number) for number, rest in declared if not rest}
    assert used == fixed
    assert ("#ARGV" in SOURCES[name] or "ipairs(ARGV)" in SOURCES[name]) == any(rest for _, rest in declared)


@a_script
def test_only_declared_keys_are_touched(name: str) -> None:
    script = load_script(name)
    code = without_comments(script.source)
    assert set(re.findall(r"\bkey\.(\w+)", code)) == set(script.keys)
    assert "KEYS[" not in without_comments("".join(SOURCES[one] for one in [name, *FRAGMENTS]))
    # The first argument of every command is a key by its declared name, or a variable that holds one.
    subjects = re.findall(r"redis\.p?call\('\w+'(?:, ([\w.']+))?", code)
    assert set(subjects) <= {
        *(f"key.{one}" for one in script.keys),
        "lane.tenants",
        "lane.debts",
        "set",
        "",
        "'server'",
        "channel",
    }


@a_script
def test_keys_are_declared_in_order_with_the_type_they_have(name: str) -> None:
    declared = re.findall(r"^-- KEYS\[(\d+)\] +(\w+) +(\w+)", header(name), re.MULTILINE)
    assert [int(number) for number, _, _ in declared] == list(range(1, len(declared) + 1))
    assert {key: KEY_TYPES[key] for _, key, _ in declared} == {key: kind.lower() for _, key, kind in declared}


@a_script
def test_the_header_says_what_comes_back_and_what_is_kept(name: str) -> None:
    assert re.search(r"^-- Returns ", header(name), re.MULTILINE)
    assert re.search(r"^-- Keeps: ", header(name), re.MULTILINE)


@pytest.mark.parametrize("name", FRAGMENTS)
def test_a_fragment_says_that_it_is_one(name: str) -> None:
    assert SOURCES[name].startswith("-- Fragment: ")
