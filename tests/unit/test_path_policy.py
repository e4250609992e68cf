"""Which paths are refused, which are held, and which are nobody's business."""

import posixpath
import re
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from supervisor.git.globs import compile_glob
from supervisor.git.path_policy import (
    LINK,
    SUBMODULE,
    Entry,
    Folder,
    Verdict,
    check_name,
    check_paths,
    display,
    fold,
    link_stays_inside,
)
from tests.site import at_best

FILE = 0o100644


def created(path: str | bytes, **fields: object) -> Entry:
    name = path if isinstance(path, bytes) else path.encode()
    return Entry(**{"path": name, "mode": FILE, "previous_mode": 0} | fields)  # type: ignore[arg-type]


def codes(verdict: Verdict) -> list[str]:
    return [problem.code for problem in verdict.problems]


@pytest.mark.parametrize(
    "path",
    [
        "README.md",
        "src/über/naïve café.py",
        "日本語/ファイル.txt",
        "👩‍💻.md",
        ".gitignore",
        ".gitkeep",
        ".github/ISSUE_TEMPLATE.md",
        "src/git/config",
        "dot.git/config",
        "a.git",
        "gitfoo~1",
        ".git-blame-ignore-revs",
        "docs/.cloud-code.md",
        "x/.cloud-code/y",
        "with space .txt",
        "-leading-dash",
        "C:foo",
    ],
)
def test_ordinary_names(path: str) -> None:
    assert check_paths([created(path)]) == Verdict((), ())


@pytest.mark.parametrize(
    ("path", "code"),
    [
        (b"caf\xe9", "E_PATH_ENCODING"),
        (b"a/\xc0\xae/b", "E_PATH_ENCODING"),
        (b"\xed\xa0\x80", "E_PATH_ENCODING"),
        ("a\x00b", "E_PATH_CONTROL"),
        ("a\nb", "E_PATH_CONTROL"),
        ("a\x7fb", "E_PATH_CONTROL"),
        ("a\u0085b", "E_PATH_CONTROL"),
        ("a\u2028b", "E_PATH_CONTROL"),
        ("a\u202eb", "E_PATH_CONTROL"),
        ("a\u2066b", "E_PATH_CONTROL"),
        ("a\u200fb", "E_PATH_CONTROL"),
        ("a\u061cb", "E_PATH_CONTROL"),
        (".git", "E_PATH_GIT"),
        ("a/.git/hooks/x", "E_PATH_GIT"),
        (".GIT/config", "E_PATH_GIT"),
        (".g\u200cit/config", "E_PATH_GIT"),
        (".git\ufeff/config", "E_PATH_GIT"),
        (".git./config", "E_PATH_GIT"),
        (".git /config", "E_PATH_GIT"),
        (".git::$INDEX_ALLOCATION/config", "E_PATH_GIT"),
        (".git:stream", "E_PATH_GIT"),
        ("git~1/config", "E_PATH_GIT"),
        ("GIT~12", "E_PATH_GIT"),
        ("gi7eba~1", "E_PATH_GIT"),
        ("gitmod~1", "E_PATH_GIT"),
        ("a\\.git\\config", "E_PATH_GIT"),
        ("a//b", "E_PATH_COMPONENT"),
        ("./a", "E_PATH_COMPONENT"),
        ("a/../b", "E_PATH_COMPONENT"),
        ("", "E_PATH_COMPONENT"),
        (".cloud-code", "E_PATH_RESERVED"),
        (".cloud-code/x", "E_PATH_RESERVED"),
        (".CLOUD-code/x", "E_PATH_RESERVED"),
        (".cloud-code./x", "E_PATH_RESERVED"),
        (".cloud\u200b-code/x", "E_PATH_RESERVED"),
        (".cloud-code\\x", "E_PATH_RESERVED"),
        ("x" * 256, "E_PATH_TOO_LONG"),
        ("é" * 128, "E_PATH_TOO_LONG"),
        ("a/" * 2_500 + "a", "E_PATH_TOO_LONG"),
    ],
)
def test_names_that_are_refused(path: str | bytes, code: str) -> None:
    verdict = check_paths([created(path)])
    assert code in codes(verdict)
    assert all(problem.place.isprintable() for problem in verdict.problems)


def test_only_new_names_are_judged() -> None:
    bad = b"caf\xe9\x07/.git"
    assert codes(check_paths([Entry(path=bad, mode=FILE, previous_mode=FILE)])) == []
    assert codes(check_paths([Entry(path=bad, mode=0, previous_mode=FILE)])) == []
    assert codes(check_paths([created(bad)])) == ["E_PATH_ENCODING"]


@given(st.binary(max_size=60))
def test_a_name_that_passes_is_harmless(path: bytes) -> None:
    if check_name(path):
        return
    text = path.decode("utf-8")
    assert all(part not in ("", ".", "..") for part in text.split("/"))
    assert display(path) == text or not text.isprintable()
    assert "\n" not in text and "\x1b" not in text


@given(
    st.lists(
        st.sampled_from([".", "g", "i", "t", "G", "I", "T", "\u200c", "\ufeff", "~1", " ", ":", "\\"]), max_size=9
    )
)
def test_every_disguise_of_the_git_folder_is_seen(parts: list[str]) -> None:
    """Held against a plain restatement of git's own rules for HFS+ and NTFS."""
    name = "".join(parts)
    plain = name.replace("\u200c", "").replace("\ufeff", "").lower()
    on_windows = plain.split("\\")[0].split(":")[0].rstrip(". ")
    if plain == ".git" or on_windows in (".git", "git~1"):
        assert "E_PATH_GIT" in [problem.code for problem in check_name(name.encode())]


def test_too_many_files_are_counted_once_each() -> None:
    entries = [created(f"{number}") for number in range(5)] * 3
    assert codes(check_paths(entries, max_files=5)) == []
    assert codes(check_paths(entries, max_files=4)) == ["E_TOO_MANY_FILES"]


def test_big_blobs() -> None:
    entry = Entry(path=b"big", mode=FILE, previous_mode=FILE, size=101)
    assert codes(check_paths([entry], max_blob_bytes=101)) == []
    assert codes(check_paths([entry, entry], max_blob_bytes=100)) == ["E_BLOB_TOO_BIG"]


def test_the_list_of_problems_is_cut() -> None:
    assert len(check_paths([created(f"{number}\n") for number in range(200)]).problems) == 50


# -- links -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "target", "inside"),
    [
        ("link", "file", True),
        ("a/b/link", "../../file", True),
        ("a/b/link", "../..", True),
        ("a/b/link", "./../c/d", True),
        ("link", ".", True),
        ("node_modules/.bin/x", "../x/cli.js", True),
        ("link", "..", False),
        ("a/link", "../..", False),
        ("link", "/etc/passwd", False),
        ("link", "", False),
        ("link", "a/../../x", False),
        ("a/link", "b/../c", False),
        ("link", "a\x00b", False),
        ("link", "\\\\server\\share", False),
        ("link", "C:/x", False),
        ("link", ".git/hooks/post-checkout", False),
        ("a/link", "../.GIT", False),
        ("a/link", "..\\..\\x", False),
    ],
)
def test_links(path: str, target: str, inside: bool) -> None:
    assert link_stays_inside(path.encode(), target.encode()) is inside
    entry = Entry(path=path.encode(), mode=LINK, previous_mode=FILE, target=target.encode())
    assert codes(check_paths([entry])) == ([] if inside else ["E_LINK_OUTSIDE"])


segments = st.sampled_from(["..", ".", "a", "b", ""])


@given(st.lists(st.sampled_from(["a", "b"]), min_size=1, max_size=4), st.lists(segments, max_size=8).map("/".join))
def test_a_link_that_passes_resolves_inside(path: list[str], target: str) -> None:
    if link_stays_inside("/".join(path).encode(), target.encode()):
        resolved = posixpath.normpath(posixpath.join("/root", *path[:-1], target))
        assert resolved == "/root" or resolved.startswith("/root/")


@given(st.lists(st.tuples(segments, segments, segments), min_size=2, max_size=3))
def test_links_that_pass_stay_inside_together(targets: list[tuple[str, str, str]]) -> None:
    """Links `a/0`, `a/1`, … may lead through one another; wherever that ends, it is inside."""
    links = {f"/root/a/{number}": "/".join(target) for number, target in enumerate(targets)}
    links = {
        at: to for at, to in links.items() if link_stays_inside(at.removeprefix("/root/").encode(), to.encode())
    }
    for start in links:
        here, pending, steps = ["", "root", "a"], [start.rsplit("/", 1)[1]], 0
        while pending and steps < 100:
            steps += 1
            part = pending.pop(0)
            if part == "..":
                here.pop()
            elif part not in (".", ""):
                here.append(part)
            assert here[:2] == ["", "root"]
            if "/".join(here) in links:
                pending = links["/".join(here)].split("/") + pending
                here.pop()


# -- held ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        ".github/workflows/ci.yml",
        ".GitHub/Workflows/ci.yml",
        ".github/actions/x/action.yml",
        ".gitlab-ci.yml",
        "sub/.gitlab-ci.yml",
        ".gitattributes",
        "docs/.gitattributes",
        ".gitmodules",
        "CODEOWNERS",
        ".github/CODEOWNERS",
        "docs/codeowners",
        ".lfsconfig",
        "AGENTS.md",
        "sub/folder/CLAUDE.md",
        "GEMINI.md",
        ".cursorrules",
        ".cursor/rules/x.mdc",
        ".claude/settings.json",
        "sub/.claude/hooks/x.sh",
        ".codex/config.toml",
        ".github/copilot-instructions.md",
    ],
)
@pytest.mark.parametrize("modes", [(FILE, 0), (FILE, FILE), (0, FILE)])
def test_held_paths(path: str, modes: tuple[int, int]) -> None:
    entry = Entry(path=path.encode(), mode=modes[0], previous_mode=modes[1])
    assert check_paths([entry, entry]) == Verdict((), (path,))


@pytest.mark.parametrize("modes", [(SUBMODULE, 0), (SUBMODULE, SUBMODULE), (0, SUBMODULE), (FILE, SUBMODULE)])
def test_submodules_are_held(modes: tuple[int, int]) -> None:
    entry = Entry(path=b"vendor/lib", mode=modes[0], previous_mode=modes[1])
    assert check_paths([entry]).held == ("vendor/lib",)


@pytest.mark.parametrize("path", [".github", ".claude", "sub/.codex", ".github/workflows"])
def test_a_link_in_the_place_of_a_held_folder(path: str) -> None:
    entry = Entry(path=path.encode(), mode=LINK, previous_mode=0, target=b"docs")
    assert check_paths([entry]).held == (path,)
    elsewhere = Entry(path=b"docs/latest", mode=LINK, previous_mode=0, target=b"v2")
    assert check_paths([elsewhere]).held == ()


def test_configured_patterns() -> None:
    entries = [created(path) for path in ("infra/a.tf", "infra/deep/b.tf", "x/Secrets.ini", "other/c.tf")]
    assert check_paths(entries, protected_paths=["infra/**", "secrets.ini"]).held == (
        "infra/a.tf",
        "infra/deep/b.tf",
        "x/Secrets.ini",
    )


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("*.pem", ["a.pem", "x/y/b.pem"], ["a.pem.txt"]),
        ("/top.txt", ["top.txt", "x/top.txt"], ["stop.txt"]),
        ("a/*.txt", ["a/b.txt"], ["a/b/c.txt", "x/a/b.txt"]),
        ("a/**/z", ["a/z", "a/b/z", "a/b/c/z"], ["az", "a/bz"]),
        ("a/**", ["a/b", "a/b/c"], ["ab", "b/a"]),
        ("folder/", ["folder/x", "y/folder/x"], ["folders/x"]),
        ("a?c", ["abc"], ["a/c", "abbc"]),
        ("a.b", ["a.b"], ["axb"]),
        ("(x)[y]+", ["(x)[y]+"], ["xy"]),
        ("a**b", ["ab", "axb", "ax/yb", "a/x/b", "ab/c"], ["xab", "a/c"]),
        ("a/**b", ["a/b", "a/x/yb"], ["ab"]),
        ("**", ["a", "a/b"], []),
        ("**/a/**/b/**", ["a/b/c", "x/a/y/b/c/d"], ["a/b", "b/a/c"]),
        ("*a*b*", ["ab", "xaxbx", "aab/c"], ["ba"]),
        ("a/*/c", ["a/b/c", "a/b/c/d"], ["a/c", "a/b/b/c"]),
    ],
)
def test_patterns(pattern: str, matching: list[str], others: list[str]) -> None:
    compiled = compile_glob(pattern)
    assert [path for path in matching if not compiled.covers(path)] == []
    assert [path for path in others if compiled.covers(path)] == []


NAMES = st.text("ab", min_size=1, max_size=3)
PARTS = st.lists(st.one_of(NAMES, st.text("ab*?", min_size=1, max_size=4), st.just("**")), min_size=2, max_size=4)


@given(PARTS, st.lists(NAMES, min_size=1, max_size=5))
def test_patterns_mean_what_a_regular_expression_would(parts: list[str], path: list[str]) -> None:
    tokens = {"**/": r"(?:[^/]+/)*", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    pattern = "/".join(parts)
    if any("**" in part and part != "**" for part in parts):
        return  # means more: "a**/b" is no "ab"
    meaning = "".join(tokens.get(found, found) for found in re.findall(r"\*\*/|\*\*|\*|\?|[^*?]", pattern))
    expected = re.fullmatch(f"{meaning}(?:/.*)?", "/".join(path)) is not None
    assert compile_glob(pattern).covers("/".join(path)) is expected


def test_patterns_take_no_time() -> None:
    path = "/".join(["a"] * 200)

    def take() -> float:
        started = time.process_time()
        for pattern in ("**/a/**/a/**/a/**/a/**/b", "**/*/**/*/**/*/**/*/**/b", "*a" * 100 + "b"):
            assert not compile_glob(pattern).covers(path)
            assert not compile_glob(pattern).covers("a" * 4000)
        return time.process_time() - started

    assert at_best(take, 5) < 5


# -- collisions ------------------------------------------------------------------------------------------


def collisions(names: list[str], known: list[str]) -> list[str]:
    content = Folder(frozenset(name.encode() for name in names), frozenset(name.encode() for name in known))
    return [problem.place for problem in check_paths([], folders={b"docs": content}).problems]


def test_new_collisions_only() -> None:
    assert collisions(["a", "b"], []) == []
    assert collisions(["README", "readme"], ["README"]) == ["docs/readme"]
    assert collisions(["README", "readme"], ["README", "readme"]) == []
    assert collisions(["README", "readme", "ReadMe"], ["README", "readme"]) == ["docs/ReadMe"]
    assert collisions(["\u00e9", "e\u0301"], []) == ["docs/e\u0301"]
    assert collisions(["straße", "STRASSE"], ["straße"]) == ["docs/STRASSE"]
    assert collisions(["a", "a."], ["a"]) == ["docs/a."]
    assert collisions(["ab", "a\u200bb"], ["ab"]) == ["docs/a\\u200bb"]


@given(st.text(max_size=12))
@example("\u0345\u03b1")
@example("\u1e9e. ")
def test_folding_is_settled(name: str) -> None:
    assert fold(fold(name)) == fold(name)
    assert fold(name.upper()) == fold(name.upper().lower()) or not name.isascii()
