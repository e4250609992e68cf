"""Hostile bundles, most of them made by hand because git itself would refuse to make them.

`CASES` names each with the code that must come of it, or with the path that must be held for a person.
"""

import hashlib
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.fakes.repositories import Clone, git

FILE, PROGRAM, LINK, SUBMODULE, FOLDER = "100644", "100755", "120000", "160000", "40000"
_KINDS = {"commit": 1, "tree": 2, "blob": 3, "tag": 4, "ref-delta": 7}
_WHO = "Agent <agent@example.org> 1767781800 +0000"
Tree = list[tuple[str, bytes, str]]


class Pack:
    """Objects in the order in which they are packed; every method gives the object's hash."""

    def __init__(self) -> None:
        self.entries: list[bytes] = []

    def add(self, kind: str, content: bytes) -> str:
        self._entry(kind, len(content), b"", content)
        return sha_of(kind, content)

    def blob(self, content: bytes) -> str:
        return self.add("blob", content)

    def tree(self, entries: Iterable[tuple[str, bytes, str]], *, sort: bool = True) -> str:
        listed = list(entries)
        if sort:
            listed.sort(key=lambda entry: entry[1] + (b"/" if entry[0] == FOLDER else b""))
        return self.add("tree", b"".join(f"{m} ".encode() + n + b"\0" + bytes.fromhex(s) for m, n, s in listed))

    def commit(self, tree: str, parents: Iterable[str], message: str = "Work", headers: str = "") -> str:
        lines = [f"tree {tree}", *(f"parent {parent}" for parent in parents)]
        text = "\n".join([*lines, f"author {_WHO}", f"committer {_WHO}"]) + f"\n{headers}\n{message}\n"
        return self.add("commit", text.encode())

    def delta(self, base: str, base_size: int, size: int, instructions: bytes) -> None:
        content = _varint(base_size) + _varint(size) + instructions
        self._entry("ref-delta", len(content), bytes.fromhex(base), content)

    def _entry(self, kind: str, size: int, before: bytes, content: bytes) -> None:
        first = (_KINDS[kind] << 4) | (size & 15)
        size >>= 4
        head = bytearray()
        while size:
            head.append(first | 0x80)
            first, size = size & 0x7F, size >> 7
        head.append(first)
        self.entries.append(bytes(head) + before + zlib.compress(content))

    def data(self, count: int | None = None) -> bytes:
        count = len(self.entries) if count is None else count
        body = b"PACK" + (2).to_bytes(4, "big") + count.to_bytes(4, "big") + b"".join(self.entries)
        return body + hashlib.sha1(body).digest()  # noqa: S324

    def bundle(self, tip: str, prerequisites: Iterable[str] = (), branch: str = "refs/heads/work") -> bytes:
        return bundle(self.data(), [(tip, branch)], prerequisites)


def bundle(pack: bytes, refs: Iterable[tuple[str, str]], prerequisites: Iterable[str] = ()) -> bytes:
    lines = ["# v2 git bundle", *(f"-{sha} " for sha in prerequisites), *(f"{sha} {name}" for sha, name in refs)]
    return "\n".join(lines).encode() + b"\n\n" + pack


def sha_of(kind: str, content: bytes) -> str:
    return hashlib.sha1(f"{kind} {len(content)}\0".encode() + content).hexdigest()  # noqa: S324


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


@dataclass(frozen=True)
class Scene:
    """What the hostile side knows: upstream's base, and (stolen) names of another task's objects."""

    agent: Clone
    base: str
    tree: Tree
    folder: Path
    foreign_commit: str
    foreign_blob: str
    foreign_size: int
    people: str

    def tree_with(self, pack: Pack, *entries: tuple[str, bytes, str], without: tuple[bytes, ...] = ()) -> str:
        return pack.tree([entry for entry in self.tree if entry[1] not in without] + list(entries))

    def one_commit(self, pack: Pack, *entries: tuple[str, bytes, str], without: tuple[bytes, ...] = ()) -> "Made":
        tip = pack.commit(self.tree_with(pack, *entries, without=without), [self.base])
        return Made(pack.bundle(tip, [self.base]), tip)

    def by_git(self, base: str | None = None) -> "Made":
        path = self.agent.bundle(base or self.base, self.folder / "by-git.bundle")
        return Made(path.read_bytes(), self.agent.head())


@dataclass(frozen=True)
class Made:
    """A bundle, the head that the report claims, and what the import's request says besides."""

    data: bytes
    head: str
    limits: dict[str, Any] = field(default_factory=dict)
    request: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """One attack; either `code` comes of it, or `held` waits for a person."""

    name: str
    make: Callable[[Scene], Made]
    code: str | None = None
    held: str | None = None


def make_scene(agent: Clone, base: str, folder: Path, foreign: Clone, people: str) -> Scene:
    foreign_commit = foreign.commit("Another task", {"secret.txt": "another task's secret\n" * 40})
    tree: Tree = []
    for line in git(agent.path, "ls-tree", base).splitlines():
        mode, _, rest = line.partition(" ")
        sha, _, name = rest.split(" ")[1].partition("\t")
        tree.append((mode.lstrip("0"), name.encode(), sha))
    return Scene(
        agent=agent,
        base=base,
        tree=tree,
        folder=folder,
        foreign_commit=foreign_commit,
        foreign_blob=foreign.git("rev-parse", "HEAD:secret.txt"),
        foreign_size=len("another task's secret\n" * 40),
        people=people,
    )


# -- headers ---------------------------------------------------------------------------------------------


def two_refs(scene: Scene) -> Made:
    pack = Pack()
    tip = pack.commit(scene.tree_with(pack, (FILE, b"a", pack.blob(b"a"))), [scene.base])
    return Made(bundle(pack.data(), [(tip, "refs/heads/a"), (tip, "refs/heads/b")], [scene.base]), tip)


def _one_ref(name: str) -> Callable[[Scene], Made]:
    def make(scene: Scene) -> Made:
        pack = Pack()
        tip = pack.commit(scene.tree_with(pack, (FILE, b"a", pack.blob(b"a"))), [scene.base])
        return Made(pack.bundle(tip, [scene.base], name), tip)

    return make


def no_ref(scene: Scene) -> Made:
    return Made(bundle(Pack().data(), [], [scene.base]), scene.base)


def version_three(scene: Scene) -> Made:
    made = two_refs(scene)
    return replace(made, data=made.data.replace(b"# v2 git bundle\n", b"# v3 git bundle\n@object-format=sha1\n"))


def endless_header(scene: Scene) -> Made:
    return Made(b"# v2 git bundle\n-" + scene.base.encode() + b" " + b"x" * 100_000, scene.base)


def many_prerequisites(scene: Scene) -> Made:
    pack = Pack()
    tip = pack.commit(scene.tree_with(pack), [scene.base])
    return Made(pack.bundle(tip, [scene.base, *(f"{number:040x}" for number in range(64))]), tip)


def no_pack(scene: Scene) -> Made:
    return Made(bundle(b"JUNK" * 10, [(scene.base, "refs/heads/work")]), scene.base)


def too_many_objects(scene: Scene) -> Made:
    pack = Pack()
    tip = pack.commit(scene.tree_with(pack), [scene.base])
    return Made(bundle(pack.data(50_001), [(tip, "refs/heads/work")], [scene.base]), tip)


def too_many_bytes(scene: Scene) -> Made:
    return replace(_plain(scene), limits={"bundle_bytes": 100})


def head_mismatch(scene: Scene) -> Made:
    return replace(_plain(scene), head=scene.base)


def _plain(scene: Scene) -> Made:
    pack = Pack()
    return scene.one_commit(pack, (FILE, b"plain.txt", pack.blob(b"plain\n")))


# -- what is not there, or not theirs --------------------------------------------------------------------


def foreign_prerequisite(scene: Scene) -> Made:
    pack = Pack()
    tip = pack.commit(scene.tree_with(pack, (FILE, b"a", pack.blob(b"a"))), [scene.foreign_commit])
    return Made(pack.bundle(tip, [scene.foreign_commit]), tip)


def prerequisite_of_another_branch(scene: Scene) -> Made:
    pack = Pack()
    tip = pack.commit(scene.tree_with(pack, (FILE, b"a", pack.blob(b"a"))), [scene.base, scene.people])
    return Made(pack.bundle(tip, [scene.base, scene.people]), tip)


def prerequisite_that_is_a_tree(scene: Scene) -> Made:
    made = _plain(scene)
    tree = next(sha for mode, _, sha in scene.tree if mode == FOLDER)
    return replace(made, data=made.data.replace(scene.base.encode() + b" \n", tree.encode() + b" \n"))


def missing_blob(scene: Scene) -> Made:
    return scene.one_commit(Pack(), (FILE, b"a", sha_of("blob", b"never sent")))


def foreign_blob(scene: Scene) -> Made:
    return scene.one_commit(Pack(), (FILE, b"stolen.txt", scene.foreign_blob))


def foreign_delta_base(scene: Scene) -> Made:
    """A delta that copies the foreign blob as a whole: its hash is known, its content is wanted."""
    pack = Pack()
    size = scene.foreign_size
    pack.delta(scene.foreign_blob, size, size, bytes([0b10110000, size & 0xFF, size >> 8]))
    return scene.one_commit(pack, (FILE, b"stolen.txt", scene.foreign_blob))


def missing_tip(scene: Scene) -> Made:
    pack = Pack()
    pack.blob(b"a")
    return Made(pack.bundle("1" * 40, [scene.base]), "1" * 40)


def tip_is_a_tree(scene: Scene) -> Made:
    pack = Pack()
    tip = scene.tree_with(pack, (FILE, b"a", pack.blob(b"a")))
    return Made(pack.bundle(tip, [scene.base]), tip)


def tip_is_a_tag(scene: Scene) -> Made:
    pack = Pack()
    commit = pack.commit(scene.tree_with(pack, (FILE, b"a", pack.blob(b"a"))), [scene.base])
    tip = pack.add("tag", f"object {commit}\ntype commit\ntag v1\ntagger {_WHO}\n\nTag\n".encode())
    return Made(pack.bundle(tip, [scene.base]), tip)


# -- packs -----------------------------------------------------------------------------------------------


def broken_pack(scene: Scene) -> Made:
    made = _plain(scene)
    return replace(
        made, data=made.data[:-40] + bytes(byte ^ 0xFF for byte in made.data[-40:-20]) + made.data[-20:]
    )


def cut_pack(scene: Scene) -> Made:
    made = _plain(scene)
    return replace(made, data=made.data[:-30])


def junk_after_the_pack(scene: Scene) -> Made:
    made = _plain(scene)
    return replace(made, data=made.data + b"junk" * 1_000)


def commit_without_author(scene: Scene) -> Made:
    pack = Pack()
    tree = scene.tree_with(pack, (FILE, b"a", pack.blob(b"a")))
    tip = pack.add("commit", f"tree {tree}\nparent {scene.base}\n\nWork\n".encode())
    return Made(pack.bundle(tip, [scene.base]), tip)


def unsorted_tree(scene: Scene) -> Made:
    pack = Pack()
    blob = pack.blob(b"a")
    tip = pack.commit(pack.tree([(FILE, b"b", blob), (FILE, b"a", blob)], sort=False), [scene.base])
    return Made(pack.bundle(tip, [scene.base]), tip)


def name_twice(scene: Scene) -> Made:
    pack = Pack()
    return scene.one_commit(pack, (FILE, b"a", pack.blob(b"1")), (FILE, b"a", pack.blob(b"2")))


def commit_as_file(scene: Scene) -> Made:
    return scene.one_commit(Pack(), (FILE, b"a", scene.base))


def folder_as_file(scene: Scene) -> Made:
    tree = next(sha for mode, _, sha in scene.tree if mode == FOLDER)
    return scene.one_commit(Pack(), (FILE, b"a", tree))


def delta_bomb(scene: Scene) -> Made:
    """16 MB of zeros in 16 KB; a delta of 3 KB copies them to 6 GB."""
    pack = Pack()
    size, copies = 0xFFFFFF, 400
    base = pack.blob(bytes(size))
    pack.delta(base, size, size * copies, bytes([0b11110000, 0xFF, 0xFF, 0xFF]) * copies)
    return scene.one_commit(pack, (FILE, b"zeros", base))


def tree_bomb(scene: Scene) -> Made:
    """Ten levels of ten names each for the same folder: 10^10 paths in a few hundred bytes."""
    pack = Pack()
    mode, sha = FILE, pack.blob(b"boom")
    for _ in range(10):
        mode, sha = FOLDER, pack.tree([(mode, f"{number}".encode(), sha) for number in range(10)])
    return scene.one_commit(pack, (FOLDER, b"bomb", sha))


def many_files_in_few_trees(scene: Scene) -> Made:
    """3 KB that list 290,000 files."""
    pack = Pack()
    blob = pack.blob(b"x")
    inner = pack.tree([(FILE, b"%d" % number, blob) for number in range(540)])
    return scene.one_commit(pack, (FOLDER, b"m", pack.tree([(FOLDER, b"%d" % n, inner) for n in range(540)])))


def deep_tree(scene: Scene) -> Made:
    pack = Pack()
    mode, sha = FILE, pack.blob(b"deep")
    for _ in range(1_000):
        mode, sha = FOLDER, pack.tree([(mode, b"d", sha)])
    return scene.one_commit(pack, (FOLDER, b"deep", sha))


def many_deep_folders(scene: Scene) -> Made:
    """A few thousand objects, half a million different folders."""
    pack = Pack()
    mode, sha = FILE, pack.blob(b"deep")
    for _ in range(190):
        mode, sha = FOLDER, pack.tree([(mode, b"d", sha)])
    return scene.one_commit(pack, (FOLDER, b"many", pack.tree([(FOLDER, b"%d" % n, sha) for n in range(2_500)])))


# -- history ---------------------------------------------------------------------------------------------


def orphan(scene: Scene) -> Made:
    pack = Pack()
    tip = pack.commit(pack.tree([(FILE, b"a", pack.blob(b"a"))]), [])
    return Made(pack.bundle(tip), tip)


def merged_foreign_root(scene: Scene) -> Made:
    pack = Pack()
    root = pack.commit(pack.tree([(FILE, b"other", pack.blob(b"other"))]), [], "Root of something else")
    tip = pack.commit(scene.tree_with(pack, (FILE, b"a", pack.blob(b"a"))), [scene.base, root])
    return Made(pack.bundle(tip, [scene.base]), tip)


def merged_branch_of_people(scene: Scene) -> Made:
    scene.agent.git("checkout", "--quiet", "-B", "merging", scene.base)
    scene.agent.commit("Own", {"own.txt": "own\n"})
    scene.agent.git("merge", "--quiet", "--no-ff", "--message", "Merge people", scene.people)
    return scene.by_git()


def dropped_base(scene: Scene) -> Made:
    """Work on top of an older commit of the base branch than the task's base."""
    pack = Pack()
    parent = scene.agent.git("rev-parse", f"{scene.base}~1")
    tip = pack.commit(scene.tree_with(pack, (FILE, b"a", pack.blob(b"a"))), [parent])
    return Made(pack.bundle(tip, [parent]), tip)


def wrong_claimed_base(scene: Scene) -> Made:
    return replace(_plain(scene), request={"claimed_base": scene.people})


def too_many_commits(scene: Scene) -> Made:
    pack = Pack()
    tree = scene.tree_with(pack, (FILE, b"a", pack.blob(b"a")))
    tip = scene.base
    for number in range(501):
        tip = pack.commit(tree, [tip], f"Step {number}")
    return Made(pack.bundle(tip, [scene.base]), tip)


def empty_commit(scene: Scene) -> Made:
    return scene.one_commit(Pack())


def no_commit(scene: Scene) -> Made:
    return Made(Pack().bundle(scene.base), scene.base)


def reserved_in_history(scene: Scene) -> Made:
    """Added by one commit, removed by the next: the result looks clean, the history is not."""
    pack = Pack()
    inner = pack.tree([(FILE, b"config.yaml", pack.blob(b"x"))])
    first = pack.commit(scene.tree_with(pack, (FOLDER, b".cloud-code", inner)), [scene.base])
    tip = pack.commit(scene.tree_with(pack, (FILE, b"a", pack.blob(b"a"))), [first])
    return Made(pack.bundle(tip, [scene.base]), tip)


def workflow_in_history(scene: Scene) -> Made:
    pack = Pack()
    flows = pack.tree([(FILE, b"new.yml", pack.blob(b"on: push"))])
    github = pack.tree([(FOLDER, b"workflows", flows)])
    first = pack.commit(scene.tree_with(pack, (FOLDER, b".github", github), without=(b".github",)), [scene.base])
    tip = pack.commit(scene.tree_with(pack, (FILE, b"a", pack.blob(b"a"))), [first])
    return Made(pack.bundle(tip, [scene.base]), tip)


def workflow_in_a_merge(scene: Scene) -> Made:
    """Only the merge itself brings it: none of its parents has it."""
    pack = Pack()
    flows = pack.tree([(FILE, b"new.yml", pack.blob(b"on: push"))])
    github = pack.tree([(FOLDER, b"workflows", flows)])
    one = pack.commit(scene.tree_with(pack, (FILE, b"a", pack.blob(b"a"))), [scene.base])
    two = pack.commit(scene.tree_with(pack, (FILE, b"b", pack.blob(b"b"))), [scene.base])
    merged = scene.tree_with(pack, (FOLDER, b".github", github), without=(b".github",))
    merge = pack.commit(merged, [one, two])
    tip = pack.commit(scene.tree_with(pack, (FILE, b"c", pack.blob(b"c"))), [merge])
    return Made(pack.bundle(tip, [scene.base]), tip)


# -- paths -----------------------------------------------------------------------------------------------


def _file(name: bytes, content: bytes = b"content\n", mode: str = FILE) -> Callable[[Scene], Made]:
    def make(scene: Scene) -> Made:
        pack = Pack()
        *folders, last = name.split(b"/")
        entry = (mode, last, pack.blob(content))
        for folder in reversed(folders):
            entry = (FOLDER, folder, pack.tree([entry]))
        return scene.one_commit(pack, entry, without=(entry[1],))

    return make


def _link(target: bytes, name: bytes = b"folder/link") -> Callable[[Scene], Made]:
    return _file(name, target, LINK)


def submodule(scene: Scene) -> Made:
    return scene.one_commit(Pack(), (SUBMODULE, b"vendor", "2" * 40))


def huge_blob(scene: Scene) -> Made:
    pack = Pack()
    return replace(scene.one_commit(pack, (FILE, b"big", pack.blob(bytes(2_000)))), limits={"blob_bytes": 1_999})


def huge_blob_in_history(scene: Scene) -> Made:
    pack = Pack()
    first = pack.commit(scene.tree_with(pack, (FILE, b"big", pack.blob(bytes(2_000)))), [scene.base])
    tip = pack.commit(scene.tree_with(pack, (FILE, b"a", pack.blob(b"a"))), [first])
    return Made(pack.bundle(tip, [scene.base]), tip, limits={"blob_bytes": 1_999})


def compressed_blobs(scene: Scene) -> Made:
    pack = Pack()
    blobs = [pack.blob(bytes([number]) * 400_000) for number in range(10)]
    made = scene.one_commit(pack, *((FILE, b"zip%d" % number, sha) for number, sha in enumerate(blobs)))
    return replace(made, limits={"unpacked_bytes": 3_000_000})


def too_many_files(scene: Scene) -> Made:
    pack = Pack()
    blob = pack.blob(b"x")
    return scene.one_commit(pack, (FOLDER, b"many", pack.tree([(FILE, b"%d" % n, blob) for n in range(3_001)])))


def folder_collision(scene: Scene) -> Made:
    pack = Pack()
    return scene.one_commit(pack, (FOLDER, b"SRC", pack.tree([(FILE, b"a", pack.blob(b"a"))])))


def deep_collision(scene: Scene) -> Made:
    pack = Pack()
    blob = pack.blob(b"x")
    names = ["b\u00e9".encode(), "be\u0301".encode()]
    inner = pack.tree([(FILE, name, blob) for name in names])
    return scene.one_commit(pack, (FOLDER, b"new", pack.tree([(FOLDER, b"deep", inner)])))


CASES: tuple[Case, ...] = (
    Case("two refs", two_refs, "E_BUNDLE_REFS"),
    Case("tag ref", _one_ref("refs/tags/v1"), "E_BUNDLE_REFS"),
    Case("HEAD ref", _one_ref("HEAD"), "E_BUNDLE_REFS"),
    Case("pin ref", _one_ref("refs/pins/other.1"), "E_BUNDLE_REFS"),
    Case("ref that climbs", _one_ref("refs/heads/../../config"), "E_BUNDLE_REFS"),
    Case("no ref", no_ref, "E_BUNDLE_REFS"),
    Case("version three", version_three, "E_BUNDLE_HEADER"),
    Case("endless header", endless_header, "E_BUNDLE_HEADER"),
    Case("many prerequisites", many_prerequisites, "E_BUNDLE_HEADER"),
    Case("no pack", no_pack, "E_BUNDLE_HEADER"),
    Case("too many objects", too_many_objects, "E_BUNDLE_TOO_BIG"),
    Case("too many bytes", too_many_bytes, "E_BUNDLE_TOO_BIG"),
    Case("head mismatch", head_mismatch, "E_HEAD_MISMATCH"),
    Case("foreign prerequisite", foreign_prerequisite, "E_PREREQUISITE"),
    Case("prerequisite of another branch", prerequisite_of_another_branch, "E_PREREQUISITE"),
    Case("prerequisite that is a tree", prerequisite_that_is_a_tree, "E_PREREQUISITE"),
    Case("missing blob", missing_blob, "E_NOT_CLOSED"),
    Case("foreign blob", foreign_blob, "E_NOT_CLOSED"),
    Case("foreign delta base", foreign_delta_base, "E_NOT_CLOSED"),
    Case("missing tip", missing_tip, "E_NOT_CLOSED"),
    Case("tip is a tree", tip_is_a_tree, "E_NOT_COMMIT"),
    Case("tip is a tag", tip_is_a_tag, "E_NOT_COMMIT"),
    Case("broken pack", broken_pack, "E_BUNDLE_PACK"),
    Case("cut pack", cut_pack, "E_BUNDLE_PACK"),
    Case("junk after the pack", junk_after_the_pack, "E_BUNDLE_PACK"),
    Case("commit without author", commit_without_author, "E_BUNDLE_PACK"),
    Case("unsorted tree", unsorted_tree, "E_BUNDLE_PACK"),
    Case("name twice", name_twice, "E_BUNDLE_PACK"),
    Case("commit as file", commit_as_file, "E_BUNDLE_PACK"),
    Case("folder as file", folder_as_file, "E_BUNDLE_PACK"),
    Case("delta bomb", delta_bomb, "E_BUNDLE_RESOURCES"),
    Case("tree bomb", tree_bomb, "E_BUNDLE_RESOURCES"),
    Case("290,000 files in 3 KB", many_files_in_few_trees, "E_TOO_MANY_FILES"),
    Case("many deep folders", many_deep_folders, "E_TOO_MANY_FILES"),
    Case("deep tree", deep_tree, "E_PATH_TOO_LONG"),
    Case("orphan", orphan, "E_NOT_DESCENDANT"),
    Case("dropped base", dropped_base, "E_NOT_DESCENDANT"),
    Case("wrong claimed base", wrong_claimed_base, "E_BASE_MISMATCH"),
    Case("merged foreign root", merged_foreign_root, "E_FOREIGN_COMMITS"),
    Case("merged branch of people", merged_branch_of_people, "E_FOREIGN_COMMITS"),
    Case("too many commits", too_many_commits, "E_TOO_MANY_COMMITS"),
    Case("empty commit", empty_commit, "E_EMPTY_RESULT"),
    Case("no commit", no_commit, "E_EMPTY_RESULT"),
    Case("git folder", _file(b".git/config"), "E_PATH_GIT"),
    Case("git folder in capitals", _file(b".GIT/config"), "E_PATH_GIT"),
    Case("git folder by short name", _file(b"git~1/config"), "E_PATH_GIT"),
    Case("git folder with zero width", _file(".g\u200cit/config".encode()), "E_PATH_GIT"),
    Case("git folder with a stream", _file(b".git::$INDEX_ALLOCATION/config"), "E_PATH_GIT"),
    Case("git folder with dots", _file(b".git. . /config"), "E_PATH_GIT"),
    Case("git folder after a backslash", _file(b"a\\.git\\config"), "E_PATH_GIT"),
    Case("gitmodules by short name", _file(b"GITMOD~1"), "E_PATH_GIT"),
    Case("dot dot", _file(b"../escape"), "E_PATH_COMPONENT"),
    Case("dot", _file(b"./escape"), "E_PATH_COMPONENT"),
    Case("reserved folder", _file(b".cloud-code/reporting.yaml"), "E_PATH_RESERVED"),
    Case("reserved folder in capitals", _file(b".Cloud-Code/reporting.yaml"), "E_PATH_RESERVED"),
    Case("reserved folder as a link", _link(b"src", b".cloud-code"), "E_PATH_RESERVED"),
    Case("reserved in history", reserved_in_history, "E_PATH_RESERVED"),
    Case("not UTF-8", _file(b"caf\xe9.txt"), "E_PATH_ENCODING"),
    Case("line break in a name", _file(b"a\nb.txt"), "E_PATH_CONTROL"),
    Case("escape sequence in a name", _file(b"a\x1b[2Jb.txt"), "E_PATH_CONTROL"),
    Case("bidirectional name", _file("gpj.\u202eexe".encode()), "E_PATH_CONTROL"),
    Case("long name", _file(b"x" * 256), "E_PATH_TOO_LONG"),
    Case("case collision", _file(b"readme.MD"), "E_PATH_COLLISION"),
    Case("collision of folders", folder_collision, "E_PATH_COLLISION"),
    Case("collision of normalisations", deep_collision, "E_PATH_COLLISION"),
    Case("absolute link", _link(b"/etc/passwd"), "E_LINK_OUTSIDE"),
    Case("climbing link", _link(b"../../outside"), "E_LINK_OUTSIDE"),
    Case("link that climbs through a link", _link(b"up/../../outside"), "E_LINK_OUTSIDE"),
    Case("link into git's folder", _link(b"../.git/hooks"), "E_LINK_OUTSIDE"),
    Case("link to a drive", _link(b"C:\\Windows"), "E_LINK_OUTSIDE"),
    Case("endless link", _link(b"a/" * 3_000), "E_LINK_OUTSIDE"),
    Case("huge blob", huge_blob, "E_BLOB_TOO_BIG"),
    Case("huge blob in history", huge_blob_in_history, "E_BLOB_TOO_BIG"),
    Case("blobs that unpack to much", compressed_blobs, "E_BUNDLE_TOO_BIG"),
    Case("too many files", too_many_files, "E_TOO_MANY_FILES"),
    Case(
        "hostile submodule address",
        _file(b".gitmodules", b'[submodule "x"]\n path = x\n url = -u./payload\n'),
        "E_BUNDLE_PACK",
    ),
    Case("submodule", submodule, held="vendor"),
    Case(
        "submodule's file",
        _file(b".gitmodules", b'[submodule "x"]\n path = x\n url = https://x.org/x\n'),
        held=".gitmodules",
    ),
    Case("workflow", _file(b".github/workflows/new.yml"), held=".github/workflows/new.yml"),
    Case("workflow in history", workflow_in_history, held=".github/workflows/new.yml"),
    Case("workflow in a merge", workflow_in_a_merge, held=".github/workflows/new.yml"),
    Case("pipeline", _file(b".gitlab-ci.yml"), held=".gitlab-ci.yml"),
    Case("attributes", _file(b".gitattributes", b"* -diff\n"), held=".gitattributes"),
    Case("attributes in a folder, in capitals", _file(b"docs/.GitAttributes"), held="docs/.GitAttributes"),
    Case("owners", _file(b"docs/CODEOWNERS"), held="docs/CODEOWNERS"),
    Case("large file store", _file(b".lfsconfig"), held=".lfsconfig"),
    Case("agents' instructions", _file(b"deep/AGENTS.md"), held="deep/AGENTS.md"),
    Case("agents' settings", _file(b".claude/settings.json"), held=".claude/settings.json"),
    Case("agents' settings as a link", _link(b"src", b".claude"), held=".claude"),
    Case("workflows as a link", _link(b"src", b".github"), held=".github"),
    Case(
        "copilot's instructions", _file(b".github/copilot-instructions.md"), held=".github/copilot-instructions.md"
    ),
)
