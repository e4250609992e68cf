"""The header of a bundle: anything may be fed to it, only version 2 with one branch comes through."""

from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.git.bundle import BundleHeader, Rejected, parse_header

SHA = "0123456789abcdef0123456789abcdef01234567"
PACK = b"PACK\0\0\0\2\0\0\0\7"
HEAD = b"# v2 git bundle\n"
REF = f"{SHA} refs/heads/cloud-code/7-work\n".encode()

shas = st.text("0123456789abcdef", min_size=40, max_size=40)
names = st.from_regex(r"[a-z0-9][a-z0-9-]{0,20}(/[a-z0-9-]{1,10}){0,2}", fullmatch=True)
comments = st.binary(max_size=60).filter(lambda comment: b"\n" not in comment)


def code_of(data: bytes) -> str:
    with pytest.raises(Rejected) as caught:
        parse_header(data)
    assert caught.value.problem.file == "result.bundle"
    return caught.value.problem.code


def test_a_header_as_git_writes_it() -> None:
    lines = HEAD + f"-{SHA} Subject of the commit\n".encode() + REF + b"\n"
    expected = BundleHeader(
        prerequisites=(SHA,), refs=((SHA, "refs/heads/cloud-code/7-work"),), offset=len(lines), objects=7
    )
    assert parse_header(lines + PACK + b"more") == expected
    assert parse_header(BytesIO(lines + PACK + b"more")) == expected
    assert expected.tip == SHA


@given(st.lists(st.tuples(shas, comments), max_size=64), shas, names)
def test_what_is_written_is_read(prerequisites: list[tuple[str, bytes]], tip: str, name: str) -> None:
    before = b"".join(b"-" + sha.encode() + b" " + comment + b"\n" for sha, comment in prerequisites)
    header = HEAD + before + f"{tip} refs/heads/{name}\n\n".encode()
    read = parse_header(header + PACK)
    assert read.prerequisites == tuple(dict.fromkeys(sha for sha, _ in prerequisites))
    assert (read.refs, read.offset, read.objects) == (((tip, f"refs/heads/{name}"),), len(header), 7)


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=80),
            st.sampled_from([HEAD, REF, b"\n", PACK, b"-", f"-{SHA} x\n".encode(), SHA.encode() + b" HEAD\n"]),
        ),
        max_size=8,
    ).map(b"".join)
)
def test_anything_else_is_refused_and_never_worse(data: bytes) -> None:
    for fed in (data, HEAD + data):
        try:
            read = parse_header(fed)
        except Rejected as refusal:
            assert refusal.problem.code in ("E_BUNDLE_HEADER", "E_BUNDLE_REFS")
        else:
            assert len(read.refs) == 1
            assert fed[read.offset :].startswith(b"PACK")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "E_BUNDLE_HEADER"),
        (HEAD, "E_BUNDLE_HEADER"),
        (HEAD + b"\n" + PACK, "E_BUNDLE_REFS"),
        (HEAD + REF, "E_BUNDLE_HEADER"),
        (HEAD + REF + b"\n", "E_BUNDLE_HEADER"),
        (HEAD + REF + b"\nPACK\0\0\0\2\0\0\0", "E_BUNDLE_HEADER"),
        (HEAD + REF + b"\nPACK\0\0\0\4\0\0\0\7", "E_BUNDLE_HEADER"),
        (b"# v3 git bundle\n@object-format=sha256\n" + REF + b"\n" + PACK, "E_BUNDLE_HEADER"),
        (HEAD + REF + REF.replace(b"7", b"8") + b"\n" + PACK, "E_BUNDLE_REFS"),
        (HEAD + REF + f"-{SHA} late\n".encode() + b"\n" + PACK, "E_BUNDLE_HEADER"),
        (HEAD + REF.replace(b"heads", b"tags") + b"\n" + PACK, "E_BUNDLE_REFS"),
        (HEAD + f"{SHA} HEAD\n\n".encode() + PACK, "E_BUNDLE_REFS"),
        (HEAD + f"{SHA} refs/heads/\n\n".encode() + PACK, "E_BUNDLE_REFS"),
        (HEAD + f"{SHA} refs/heads/a b\n\n".encode() + PACK, "E_BUNDLE_REFS"),
        (HEAD + f"{SHA} refs/heads/a..b\n\n".encode() + PACK, "E_BUNDLE_REFS"),
        (HEAD + f"{SHA} refs/heads/../x\n\n".encode() + PACK, "E_BUNDLE_REFS"),
        (HEAD + f"{SHA} refs/heads/x\r\n\n".encode() + PACK, "E_BUNDLE_REFS"),
        (HEAD + REF.replace(b"0123", b"012G") + b"\n" + PACK, "E_BUNDLE_HEADER"),
        (HEAD + REF.replace(b"0123", b"012") + b"\n" + PACK, "E_BUNDLE_HEADER"),
        (HEAD + b"-" + REF + REF + b"x" * 70_000 + b"\n\n" + PACK, "E_BUNDLE_HEADER"),
        (HEAD + f"-{SHA}x\n".encode() + REF + b"\n" + PACK, "E_BUNDLE_HEADER"),
        (HEAD + REF.replace(b"work", b"w\xff") + b"\n" + PACK, "E_BUNDLE_HEADER"),
    ],
)
def test_refusals(data: bytes, code: str) -> None:
    assert code_of(data) == code


def test_the_number_of_prerequisites_is_limited() -> None:
    lines = [f"-{number:040x} \n".encode() for number in range(65)]
    assert len(parse_header(HEAD + b"".join(lines[:64]) + REF + b"\n" + PACK).prerequisites) == 64
    assert code_of(HEAD + b"".join(lines) + REF + b"\n" + PACK) == "E_BUNDLE_HEADER"
