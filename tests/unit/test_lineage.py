"""Which workstations have the same login of a subscription: the comparison, and the marks that are compared."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_daemon.clis import ADAPTERS
from agent_daemon.clis.base import About
from agent_daemon.logins import EARLIER, keep_marks, key_of, lineages, login_files, renews
from supervisor.core.lineage import Holder, Seen, Shared, shared_logins, who_has

TOKEN = "rt_0123456789abcdefghijklmnop"
KEY = b"k" * 32
ABOUT = About(logins=(".codex/auth.json",), folders={"CODEX_HOME": ".codex"})


def seen(workstation: str, place: str, mark: str, cli: str = "codex", past: bool = False) -> Seen:
    return Seen(Holder(workstation, cli, ".codex/auth.json"), place, mark, past)


def names(found: tuple[Shared, ...]) -> list[list[str]]:
    return [[holder.workstation for holder in shared.holders] for shared in found]


def test_copies_are_shared_and_one_file_is_not() -> None:
    copies = [seen("b-1", "1", "m"), seen("b-2", "2", "m"), seen("b-3", "3", "n")]
    assert names(shared_logins(copies)) == [["b-1", "b-2"]]
    assert shared_logins([seen("b-1", "1", "m"), seen("b-2", "1", "m")]) == ()
    one_and_a_copy = [seen("b-1", "1", "m"), seen("b-2", "1", "m"), seen("b-3", "2", "m")]
    assert names(shared_logins(one_and_a_copy)) == [["b-1", "b-2", "b-3"]]


def test_two_clis_of_one_workstation_have_two_homes() -> None:
    (group,) = shared_logins([seen("b-1", "1", "m"), seen("b-1", "2", "m", cli="codex-acp")])
    assert who_has(group.now) == "codex of b-1 (.codex/auth.json); codex-acp of b-1 (.codex/auth.json)"


def test_several_tokens_of_one_file_are_told_once() -> None:
    both = [seen(name, place, mark) for mark in "mn" for name, place in (("b-1", "1"), ("b-2", "2"))]
    assert names(shared_logins([*both, seen("b-3", "3", "n")])) == [["b-1", "b-2", "b-3"]]


def test_a_copy_is_told_from_the_login_that_was_renewed_elsewhere() -> None:
    renewed = [seen("b-1", "1", "m", past=True), seen("b-1", "1", "n"), seen("b-2", "2", "m")]
    (shared,) = shared_logins(renewed)
    assert ([one.workstation for one in shared.now], [one.workstation for one in shared.before]) == (
        ["b-2"],
        ["b-1"],
    )
    assert shared_logins([*renewed[:2], seen("b-2", "2", "m", past=True), seen("b-2", "2", "o")]) == ()
    assert shared_logins([seen("b-1", "1", "m", past=True), seen("b-2", "1", "m")]) == ()  # one file


SEEN = st.builds(
    seen, st.sampled_from("abcd"), st.sampled_from("1234"), st.sampled_from("mno"), past=st.booleans()
)


@given(st.lists(SEEN))
def test_whatever_is_seen(found: list[Seen]) -> None:
    shared = shared_logins(found)
    assert shared == shared_logins(reversed(found)) == shared_logins(found * 2)
    assert all(one.now and not set(one.now) & set(one.before) for one in shared)
    for mark in {one.mark for one in found}:
        alike = [one for one in found if one.mark == mark]
        now = {one.holder for one in alike if not one.past}
        told = any(set(one.holders) >= now for one in shared)
        assert told or not now or len({one.place for one in alike}) == 1


def marks(folder: Path, key: bytes = KEY, about: About = ABOUT, **environment: str) -> list[str]:
    return [one.mark for one in lineages(login_files(about, folder, environment), key)]


def lay(folder: Path, content: Any, name: str = ".codex/auth.json") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


CODEX = {
    "OPENAI_API_KEY": None,
    "tokens": {"id_token": "i" * 20, "access_token": "a" * 20, "refresh_token": TOKEN},
    "last_refresh": "2026-01-07T10:30:00.123456Z",
}
LOGINS = {
    "codex": CODEX,
    "codex-acp": CODEX,
    "claude-code": {
        "claudeAiOauth": {"accessToken": "a" * 20, "refreshToken": TOKEN, "refreshTokenExpiresAt": "9" * 20}
    },
    "claude-agent-acp": {"claudeAiOauth": {"accessToken": "a" * 20, "refreshToken": TOKEN, "expiresAt": 1}},
    "gemini": {"access_token": "a" * 20, "refresh_token": TOKEN, "expiry_date": 1},
    "qwen": {"access_token": "a" * 20, "refresh_token": TOKEN, "resource_url": "portal.qwen.ai"},
    "opencode": {
        "anthropic": {"type": "oauth", "refresh": TOKEN, "access": "a" * 20, "expires": 1},
        "openai": {"type": "api", "key": "sk-" + "0" * 20},
    },
}


@pytest.mark.parametrize("adapter", LOGINS)
def test_the_login_of_each_cli_where_it_looks_for_it(tmp_path: Path, adapter: str) -> None:
    about = ADAPTERS[adapter].ABOUT
    (name,) = about.logins
    lay(tmp_path / "home", LOGINS[adapter], name)
    found = marks(tmp_path / "home", about=about)
    assert len(found) == 1
    for variable, folder in about.folders.items():
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        lay(tmp_path, LOGINS[adapter], name)
        assert marks(tmp_path / "nowhere", about=about, **{variable: str(tmp_path / folder)}) == found
    assert about.log_in


def test_a_mark_is_of_the_token_alone_and_of_no_use_without_its_key(tmp_path: Path) -> None:
    lay(tmp_path / "a", CODEX)
    lay(tmp_path / "b", {"tokens": {"access_token": "another, renewed", "refresh_token": TOKEN}})
    assert marks(tmp_path / "a") == marks(tmp_path / "b") != marks(tmp_path / "a", b"another key")
    assert marks(tmp_path / "a")[0] not in {hashlib.sha256(TOKEN.encode()).hexdigest(), TOKEN}


def test_keys_and_tokens_that_are_not_renewed_are_no_login(tmp_path: Path) -> None:
    lay(
        tmp_path, {"OPENAI_API_KEY": "sk-" + "0" * 30, "tokens": {"refresh_token": None, "access_token": "a" * 30}}
    )
    assert marks(tmp_path) == []
    given = {"OPENAI_API_KEY": "sk-" + "0" * 30, "CLAUDE_CODE_OAUTH_TOKEN": "sk-ant-oat01-" + "0" * 30}
    assert lineages((), KEY, given=given) == ()


@pytest.mark.parametrize(
    ("name", "value", "is_one"),
    [
        ("CLAUDE_CODE_OAUTH_REFRESH_TOKEN", TOKEN, True),
        ("OPENCODE_AUTH_CONTENT", json.dumps(LOGINS["opencode"]), True),
        ("OPENCODE_AUTH_CONTENT", json.dumps({"openai": {"type": "api", "key": "sk-" + "0" * 30}}), False),
        ("ANTHROPIC_API_KEY", "sk-ant-api03-" + "0" * 30, False),
        ("EMPTY_REFRESH_TOKEN", "", False),
    ],
)
def test_a_variable_that_hands_out_a_login(name: str, value: str, is_one: bool) -> None:
    assert renews(name, value) is is_one
    assert [one.login for one in lineages((), KEY, given={name: value})] == [f"variable {name}"] * is_one


def test_what_is_no_plain_file_is_not_read(tmp_path: Path) -> None:
    """Links, of the file and on the way to it; pipes, other names of a file, folders, what is too large."""
    real = lay(tmp_path / "real", CODEX)
    homes = {name: tmp_path / name for name in ("link", "way", "pipe", "other", "folder", "large", "closed")}
    for home in homes.values():
        home.joinpath(".codex").mkdir(parents=True)
    (homes["link"] / ".codex/auth.json").symlink_to(real)
    (homes["way"] / ".codex").rmdir()
    (homes["way"] / ".codex").symlink_to(real.parent)
    os.mkfifo(homes["pipe"] / ".codex/auth.json")
    (homes["folder"] / ".codex/auth.json").mkdir()
    lay(homes["large"], b'{"refresh_token": "' + b"x" * 300_000 + b'"}')
    assert [marks(home) for home in homes.values()] == [[]] * len(homes)
    os.link(real, homes["other"] / ".codex/auth.json")
    assert marks(homes["other"]) == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0\xff\xfe",
        b'{"refresh_token": "' + TOKEN.encode(),
        b"[" * 200_000,
        b'{"a":' * 40_000 + b"1" + b"}" * 40_000,
        b"9" * 200_000,
        b'{"refresh_token": ["' + TOKEN.encode() + b'"]}',
        b'"refresh_token"',
        b'{"refresh_token": 1e999}',
    ],
)
def test_what_is_no_login_holds_none(tmp_path: Path, content: bytes) -> None:
    lay(tmp_path, content)
    assert marks(tmp_path) == []


def test_a_token_that_is_no_text_and_very_many(tmp_path: Path) -> None:
    lay(tmp_path, b'{"refresh_token": "\\ud800' + b"x" * 20 + b'"}')
    assert len(marks(tmp_path)) == 1
    lay(tmp_path, [{"refresh_token": f"{number:030}"} for number in range(3000)])
    assert len(marks(tmp_path)) == 50


def test_what_a_login_was_before_it_was_renewed_is_kept_by_its_mark(tmp_path: Path) -> None:
    files = login_files(ABOUT, tmp_path, {})

    def held() -> list[tuple[str, bool]]:
        return [(one.mark, one.past) for one in lineages(files, KEY, home=tmp_path)]

    keep_marks(files, KEY, tmp_path)
    assert list(tmp_path.iterdir()) == []  # no login, no file
    lay(tmp_path, CODEX)
    keep_marks(files, KEY, tmp_path)
    ((first, past),) = held()
    assert not past
    lay(tmp_path, {"tokens": {"refresh_token": "another" * 5}})
    keep_marks(files, KEY, tmp_path)
    assert {(first, True)} < set(held()) and len(held()) == 2
    kept = tmp_path / EARLIER
    assert TOKEN not in kept.read_text() and kept.stat().st_mode & 0o777 == 0o600
    for number in range(60):
        lay(tmp_path, {"tokens": {"refresh_token": f"{number:030}"}})
        keep_marks(files, KEY, tmp_path)
    assert len(json.loads(kept.read_text())) == 50
    (tmp_path / ".codex/auth.json").unlink()
    assert held() == []  # who has no login is in nobody's way


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"3", b"[[" * 90_000, b'["x", 3, null, {}]', b"[" + b"1," * 999_999]
)
def test_what_an_agent_writes_over_what_was_kept(tmp_path: Path, content: bytes) -> None:
    lay(tmp_path, CODEX)
    lay(tmp_path, content, EARLIER)
    files = login_files(ABOUT, tmp_path, {})
    assert [one.past for one in lineages(files, KEY, home=tmp_path)] == [False]
    keep_marks(files, KEY, tmp_path)
    assert len(json.loads((tmp_path / EARLIER).read_text())) == 1


def test_what_was_kept_is_no_link_to_be_written_through(tmp_path: Path) -> None:
    elsewhere = lay(tmp_path, b"mine", "elsewhere")
    (tmp_path / EARLIER).symlink_to(elsewhere)
    lay(tmp_path, CODEX)
    keep_marks(login_files(ABOUT, tmp_path, {}), KEY, tmp_path)
    assert elsewhere.read_bytes() == b"mine" and not (tmp_path / EARLIER).is_symlink()
    assert key_of("a") != key_of("b")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(JSON, st.lists(st.text(min_size=1), max_size=5))
def test_a_token_is_found_however_deep_it_lies(around: Any, way: list[str]) -> None:
    value: Any = {"refreshToken": TOKEN, "around": around}
    for name in way:
        value = [{name: value}, around]
    (wanted,) = lineages((), KEY, given={"X": json.dumps({"refreshToken": TOKEN})})
    found = lineages((), KEY, given={"X": json.dumps(value)})
    assert wanted in found and TOKEN not in repr(found)
