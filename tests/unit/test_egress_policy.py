"""Where workstations may connect to: names, addresses, sets, and what is told of refusals."""

import functools
import ipaddress
import socket
import ssl
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from supervisor.core.addresses import NEVER, NOT_PUBLIC, network, reason_against
from supervisor.core.egress import ADDRESS, REQUEST, Policy, RefusedError, Target, authority, entry, expand, word
from supervisor.core.egress_sets import OF_ADAPTER, OF_KEY, SETS
from supervisor.core.reach import allowed_by, lacking, out_of_reach
from supervisor.core.refusals import KINDS_KEPT, LINES_A_MINUTE, Refusal, Refusals
from supervisor.core.settings import Config
from supervisor.core.tls import TlsError, server_name

LABELS = st.from_regex("[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)
NAMES = st.builds(
    lambda labels, last: ".".join([*labels, last]), st.lists(LABELS, min_size=1, max_size=4), st.just("org")
)
PORTS = st.integers(1, 65_535)
V4 = st.integers(0, 2**32 - 1).map(ipaddress.IPv4Address)
V6 = st.integers(0, 2**128 - 1).map(ipaddress.IPv6Address)


# --- names ------------------------------------------------------------------------------------------------


@given(NAMES, PORTS)
def test_a_host_is_allowed_in_whatever_way_it_is_written_and_nothing_beside_it(name: str, port: int) -> None:
    policy = Policy.of([f"{name}:{port}"])
    for written in (name, name.upper(), f"{name}.", name.title()):
        assert policy.allows(authority(f"{written}:{port}"))
    for other in (f"x.{name}", f"x{name}", f"{name}x", f"{name}.evil.org", f"evil-{name}"):
        assert not policy.allows(Target(other, port))
    assert not policy.allows(Target(name, port % 65_535 + 1))


@given(NAMES, PORTS, st.lists(LABELS, min_size=1, max_size=3))
def test_a_wildcard_means_everything_below_and_not_the_name_itself(
    name: str, port: int, labels: list[str]
) -> None:
    policy = Policy.of([f"*.{name}:{port}"])
    assert policy.allows(authority(f"{'.'.join(labels)}.{name}:{port}"))
    assert not policy.allows(authority(f"{name}:{port}"))
    assert not policy.allows(authority(f"evil{name}:{port}"))


@given(st.one_of(V4, V6))
def test_no_notation_of_an_address_is_a_name(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    forms = [str(address)]
    if isinstance(address, ipaddress.IPv4Address):
        number, (a, b, c, d) = int(address), address.packed
        forms += [str(number), hex(number), f"{number:#o}".replace("o", ""), f"{a}.{b * 65536 + c * 256 + d}"]
        forms += [
            f"{a:#x}.{b:#x}.{c:#x}.{d:#x}",
            f"{a}.{b}.{c * 256 + d:#x}",
            f"{address}.",
            f"0{a:o}.{b}.{c}.0{d:o}",
        ]
        forms += [f"::ffff:{address}", f"[::ffff:{address}]"]
    else:
        forms += [f"[{address}]", address.exploded, f"[{address}%lo]"]
    for form in forms:
        with pytest.raises(RefusedError) as refused:
            authority(f"{form}:443")
        assert refused.value.code in (ADDRESS, REQUEST)


@given(st.text(max_size=40))
def test_any_text_is_a_whole_name_and_a_port_or_refused(text: str) -> None:
    try:
        target = authority(text)
    except RefusedError as error:
        assert error.message.isascii() and error.message.isprintable()
    else:
        assert target == authority(str(target)) and target.host.isascii() and "." in target.host
        assert not set(target.host) & set("@/\\?#%: \t\r\n[]")


@pytest.mark.parametrize(
    "asked",
    [
        *("localhost:443", "metadata:80", "pypi.org", "pypi.org:", "pypi.org:0", "pypi.org:065", "pypi.org:65536"),
        *(
            "pypi.org:+443",
            "pypi.org:４４３",
            "ｐｙｐｉ.org:443",
            "pypi。org:443",
            "pypi.org\0.evil.org:443",
            ":443",
        ),
        *("user@pypi.org:443", "pypi.org@evil.org:443", "pypi.org/../evil.org:443", "pypi.org%2eevil.org:443"),
        *(
            "pypi..org:443",
            ".pypi.org:443",
            "pypi.org..:443",
            "-pypi.org:443",
            f"{'a' * 64}.org:443",
            "a b.org:443",
        ),
        *(f"{'a.' * 130}org:443", "pypi.org:443:443", "*.org:443", "pypi.org:0x1bb", "http://pypi.org:443"),
    ],
)
def test_odd_names_and_ports_are_refused(asked: str) -> None:
    with pytest.raises(RefusedError):
        authority(asked)


# --- addresses ----------------------------------------------------------------------------------------------


# Of IPv4, of IPv6, and what is none.
REFUSED = """
0.0.0.0 0.1.2.3 10.0.0.1 100.64.0.1 100.100.100.200 127.0.0.1 127.9.9.9 169.254.169.254 172.16.0.1 172.31.255.255
192.0.0.192 192.0.2.1 192.168.1.1 198.18.0.1 198.51.100.7 203.0.113.9 224.0.0.1 239.255.255.255 240.0.0.1
255.255.255.255 168.63.129.16
:: ::1 ::ffff:8.8.8.8 ::ffff:10.0.0.1 ::10.0.0.1 64:ff9b::10.0.0.1 64:ff9b::127.0.0.1 64:ff9b:1::8.8.8.8
64:ff9b::a9fe:a9fe 2002:0a00:0001::1 2001:0:1234::1 2001:db8::1 fc00::1 fd00:ec2::254 fd12::1 fe80::1 fe80::1%lo
fec0::1 ff02::1 3fff::1 100::1 4000::1 2606:4700::5efe:a00:1 2606:4700::200:5efe:a00:1
pypi.org 1.2.3 ١.١.١.١
"""


@pytest.mark.parametrize("address", ["", *REFUSED.split()])
def test_what_is_not_of_the_public_internet_is_refused(address: str) -> None:
    assert reason_against(address)


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "1.1.1.1", "151.101.0.223", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "64:ff9b::8.8.8.8"],
)
def test_the_public_internet_is_taken(address: str) -> None:
    assert reason_against(address) is None


@given(st.one_of(V4, V6))
def test_what_is_taken_is_global_to_python_too(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    if reason_against(str(address)) is None:
        if address in ipaddress.IPv6Network("64:ff9b::/96") if address.version == 6 else False:
            address = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        assert address.is_global and not address.is_multicast


@given(st.sampled_from([net for net, _ in (*NEVER, *NOT_PUBLIC)]), st.data())
def test_no_address_of_a_listed_network_is_taken(net: Any, data: st.DataObject) -> None:
    offset = data.draw(st.integers(0, net.num_addresses - 1))
    address = net[offset]
    assume(address.version == 4 or address not in ipaddress.IPv6Network("64:ff9b::/96"))
    assert reason_against(str(address))


@given(V4)
def test_an_address_in_another_is_judged_like_itself(inner: ipaddress.IPv4Address) -> None:
    nat64 = ipaddress.IPv6Address(int(ipaddress.IPv6Address("64:ff9b::")) | int(inner))
    assert reason_against(str(nat64)) == reason_against(str(inner))
    for prefix in ("::ffff:0:0", "::", "::ffff:0:0:0"):
        assert reason_against(str(ipaddress.IPv6Address(int(ipaddress.IPv6Address(prefix)) | int(inner))))


def test_a_network_can_be_allowed_but_never_this_host_or_metadata() -> None:
    inside = [ipaddress.ip_network(network("10.1.0.0/16")), ipaddress.ip_network(network("fd12:1::/32"))]
    assert reason_against("10.1.2.3", inside) is None and reason_against("fd12:1::5", inside) is None
    assert reason_against("10.2.0.1", inside) and reason_against("::ffff:10.1.2.3", inside)
    assert reason_against("64:ff9b::10.1.2.3", inside) is None
    for text in (
        "127.0.0.0/8",
        "0.0.0.0/0",
        "169.254.0.0/16",
        "::/0",
        "fd00::/8",
        "100.64.0.0/10",
        "64:ff9b::/96",
    ):
        with pytest.raises(ValueError, match=r"never connected|carries IPv4"):
            network(text)
    with pytest.raises(ValueError, match="not a network"):
        network("10.1.2.3/16")


# --- what is configured ---------------------------------------------------------------------------------------


def test_every_set_is_made_of_entries_and_every_adapter_has_its_provider() -> None:
    from agent_daemon.clis import ADAPTERS

    for entries in SETS.values():
        assert entries and all(entry(text) for text in entries)
    assert {name for names in OF_ADAPTER.values() for name in names} | set(OF_KEY.values()) <= SETS.keys()
    assert OF_ADAPTER.keys() | {"aider", "command"} == ADAPTERS.keys()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("pypy", "did you mean pypi"),
        ("everything", "there are anthropic"),
        ("registry.example.org", "needs a port: registry.example.org:443"),
        ("registry.example.org:https", "1 to 65535"),
        ("*:443", "not the whole name"),
        ("*.org:443", "not the whole name"),
        ("10.1.2.3:443", "is an address"),
        ("[fd00::1]:443", "is an address"),
        ("bücher.example:443", "xn--bcher-kva.example:443"),
        ("https://pypi.org:443", "is an address|not the whole name"),
    ],
)
def test_what_cannot_be_configured_is_told_with_its_mend(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        word(text)


@given(NAMES, PORTS)
def test_an_entry_reads_back_as_it_is_written(name: str, port: int) -> None:
    assert word(f"{name}:{port}") and str(entry(f"{name}:{port}")) == f"{name}:{port}"
    assert expand([f"{name}:{port}", f"{name.upper()}:{port}"]) == (f"{name}:{port}",)


def config_with(station: dict[str, Any], clis: dict[str, Any]) -> Config:
    return Config.model_validate(
        {
            "projects": {"demo": {"repository": "/r"}},
            "workstations": {"backend": {"driver": "docker", **station}},
            "clis": clis,
        }
    )


def test_without_a_word_a_workstation_reaches_its_models_and_two_registries() -> None:
    config = config_with({"clis": ["codex", "claude-code"]}, {})
    assert config.workstations["backend"].controlled
    assert {"api.openai.com:443", "api.anthropic.com:443", "pypi.org:443"} <= set(allowed_by(config, "backend"))
    assert "github.com:443" not in allowed_by(config, "backend")
    assert lacking(config, "backend") == ()


def test_the_clis_endpoints_are_those_that_are_configured() -> None:
    clis = {
        "codex": {"options": {"base_url": "https://models.example.org/v1"}},
        "aider": {"pass_environment": ["GEMINI_API_KEY"]},
        "mine": {
            "adapter": "command",
            "argv": ["x"],
            "environment": {"OPENAI_BASE_URL": "http://gateway.example.org:8080/v1"},
        },
        "claude-code": {"mcp": {"servers": {"docs": {"url": "https://mcp.example.org/"}}}},
        "opencode": {"options": {"base_url": "http://127.0.0.1:8000/v1"}},
    }
    config = config_with({"clis": list(clis), "egress": ["clis"]}, clis)
    allowed = set(allowed_by(config, "backend"))
    assert {"models.example.org:443", "generativelanguage.googleapis.com:443", "mcp.example.org:443"} <= allowed
    assert {"gateway.example.org:8080", "api.anthropic.com:443"} <= allowed
    assert "api.openai.com:443" not in allowed and not any("127" in one for one in allowed)
    assert out_of_reach(config, "backend") == ("http://127.0.0.1:8000/v1",)
    narrow = config_with(
        {"clis": ["codex"], "egress": ["pypi"]}, {"codex": {"pass_environment": ["OPENAI_API_KEY"]}}
    )
    assert lacking(narrow, "backend") == ("api.openai.com:443",)
    login = config_with({"clis": ["codex"]}, {})
    assert "auth.openai.com:443" in allowed_by(login, "backend")


def test_the_list_belongs_to_allow_alone() -> None:
    for network_mode in ("open", "none"):
        with pytest.raises(ValueError, match="is for `network: allow`"):
            config_with({"clis": ["codex"], "network": network_mode, "egress": ["pypi"]}, {})
    with pytest.raises(ValueError, match="has no containers"):
        config_with({"driver": "local", "clis": ["codex"], "egress": ["pypi"]}, {})


# --- what is told of refusals -----------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 200), st.floats(0, 30)), max_size=300))
def test_lines_are_bounded_and_no_refusal_is_lost_of_the_count(steps: list[tuple[int, float]]) -> None:
    book, now, lines, noted, told = Refusals(), 0.0, list[float](), 0, 0
    for host, pause in steps:
        book.note(Refusal("E_EGRESS_NOT_ALLOWED", f"h{host}.org", 443, "no"), now)
        noted += 1
        now += pause
        for line in book.due(now):
            lines.append(now)
            told += line.count
    for start in lines:
        assert sum(start <= at < start + 60 for at in lines) <= 2 * LINES_A_MINUTE + 3
    for _ in range(400):
        now += 61
        told += sum(line.count for line in book.due(now))
    assert told == noted


def test_the_first_of_a_kind_is_told_at_once_and_the_rest_by_their_number() -> None:
    book, refusal = Refusals(), Refusal("E_EGRESS_NOT_ALLOWED", "evil.org", 443, "no")
    book.note(refusal, 100)
    assert [(line.refusal.host, line.count) for line in book.due(100)] == [("evil.org", 1)]
    for _ in range(5000):
        book.note(refusal, 100.5)
    assert book.due(101) == []
    assert [(line.count, line.age_seconds) for line in book.due(161)] == [(5000, 60.5)]


def test_a_flood_of_hosts_takes_no_memory() -> None:
    book = Refusals()
    for number in range(10_000):
        book.note(Refusal("E_EGRESS_NOT_ALLOWED", f"{number}.evil.org", 443, "no"), 0)
    assert len(book._kinds) == KINDS_KEPT
    lines = book.due(1)
    assert len(lines) == LINES_A_MINUTE + 1 and lines[-1].kinds > 1
    assert lines[-1].count == 10_000 - KINDS_KEPT


# --- the name in a TLS hello ------------------------------------------------------------------------------------


@functools.cache
def hello(name: str | None) -> bytes:
    """What a real client sends first."""
    context = ssl.create_default_context()
    context.check_hostname = name is not None
    if name is None:
        context.verify_mode = ssl.CERT_NONE
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def test_the_name_in_a_hello_is_read_however_it_arrives() -> None:
    whole = hello("Files.PythonHosted.org")
    for cut in range(len(whole)):
        assert server_name(whole[:cut]) is None
    assert server_name(whole) == server_name(whole + b"more") == "files.pythonhosted.org"
    body = whole[5:]
    assert server_name(in_records(body[:20], 1) + in_records(body[20:], 100)) == "files.pythonhosted.org"
    for size in (50, 100):
        assert server_name(in_records(body, size)) == "files.pythonhosted.org"


def in_records(body: bytes, size: int) -> bytes:
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"\x16\x03\x01" + len(piece).to_bytes(2, "big") + piece for piece in pieces)


def test_a_hello_in_thousands_of_records_is_refused_early() -> None:
    """Each byte that arrives has it read anew from its beginning, while everybody else's connections wait."""
    endless = in_records(b"\x01\x00\x40\x00" + bytes(16_000), 1)
    assert server_name(endless[: 6 * 64]) is None
    with pytest.raises(TlsError, match="too many"):
        server_name(endless)


def test_what_is_no_tls_or_names_no_host_is_refused() -> None:
    for data in (
        b"GET / HTTP/1.1\r\n\r\n",
        b"SSH-2.0-x\r\n",
        b"\x16\x03\x01\x00\x00",
        b"\x16\x03\x01\xff\xff",
        hello(None),
    ):
        with pytest.raises(TlsError):
            server_name(data)


@given(st.binary(max_size=300), st.integers(0, 600))
def test_no_bytes_break_the_reader(data: bytes, place: int) -> None:
    bent = bytearray(hello("pypi.org"))
    bent[place % len(bent) : place % len(bent) + len(data)] = data
    for given_bytes in (data, b"\x16\x03\x01" + data, bytes(bent)):
        try:
            found = server_name(given_bytes)
        except TlsError:
            continue
        assert found is None or isinstance(found, str)


def test_resolvers_take_no_more_for_an_address_than_we_do() -> None:
    """What the C library reads as an address without asking anybody is never a name here."""
    for text in ("127.1", "0x7f.1", "017700000001", "2130706433", "1.2.3.4", "0x7f000001", "127.0.1"):
        assert socket.getaddrinfo(text, 443, flags=socket.AI_NUMERICHOST)
        with pytest.raises(RefusedError):
            authority(f"{text}:443")
