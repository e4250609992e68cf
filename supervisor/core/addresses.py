"""Which addresses a workstation may be connected to, once a name has been resolved.

After IANA's registries of special-purpose addresses (IPv4 and IPv6), and what clouds document of the addresses at
which they tell machines who they are. The tables are written out, for `ipaddress.is_global` differs by release.
"""

import ipaddress
from collections.abc import Iterable
from typing import Final

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _table(*rows: tuple[str, str]) -> tuple[tuple[Network, str], ...]:
    return tuple((ipaddress.ip_network(net), name) for net, name in rows)


# Refused whatever is configured: this host, its neighbours on the wire, what is told to the machine itself, and
# addresses that carry another one in them.
NEVER: Final = _table(
    ("0.0.0.0/8", "this host"),
    ("127.0.0.0/8", "loopback"),
    ("169.254.0.0/16", "link-local, where clouds tell machines who they are"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved"),
    ("100.100.100.200/32", "metadata of a cloud"),
    ("168.63.129.16/32", "metadata of a cloud"),
    ("192.0.0.192/32", "metadata of a cloud"),
    ("fd00:ec2::/32", "metadata of a cloud"),
    ("fd20:ce::254/128", "metadata of a cloud"),
    ("::1/128", "loopback"),
    ("64:ff9b:1::/48", "carries an IPv4 address"),
    ("::/8", "reserved, or carries an IPv4 address"),
    ("2001::/32", "carries an IPv4 address (Teredo)"),
    ("2002::/16", "carries an IPv4 address (6to4)"),
    ("fe80::/10", "link-local"),
    ("fec0::/10", "site-local"),
    ("ff00::/8", "multicast"),
)
# Refused unless the configuration names a network that it is in.
NOT_PUBLIC: Final = _table(
    ("10.0.0.0/8", "private"),
    ("100.64.0.0/10", "shared by a carrier"),
    ("172.16.0.0/12", "private"),
    ("192.0.0.0/24", "reserved"),
    ("192.0.2.0/24", "for documentation"),
    ("192.88.99.0/24", "reserved"),
    ("192.168.0.0/16", "private"),
    ("198.18.0.0/15", "for measurements"),
    ("198.51.100.0/24", "for documentation"),
    ("203.0.113.0/24", "for documentation"),
    ("2001::/23", "reserved"),
    ("2001:db8::/32", "for documentation"),
    ("3fff::/20", "for documentation"),
    ("fc00::/7", "private"),
)
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_PUBLIC_V6: Final = ipaddress.IPv6Network("2000::/3")
# The lower half of an address that carries an IPv4 address after ISATAP: 0000:5efe or 0200:5efe, then that.
_ISATAP: Final = (0x00005EFE, 0x02005EFE)


def reason_against(text: str, networks: Iterable[Network] = ()) -> str | None:
    """Why an address is not connected to; None for one of the public internet, or of these networks.

    `text` is what a resolver answered.
    """
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return "no address"
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            return "link-local"
        if address in _NAT64:  # how a host without IPv4 reaches it: judged by where it leads
            return _judge(ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF), networks)
        if int(address) >> 32 & 0xFFFF_FFFF in _ISATAP:
            return "carries an IPv4 address (ISATAP)"
    return _judge(address, networks)


def _judge(address: Address, networks: Iterable[Network]) -> str | None:
    never = _found(address, NEVER)
    if never is not None:
        return never
    if any(address.version == network.version and address in network for network in networks):
        return None
    if isinstance(address, ipaddress.IPv6Address) and address not in _PUBLIC_V6:
        return _found(address, NOT_PUBLIC) or "reserved"
    return _found(address, NOT_PUBLIC)


def _found(address: Address, table: tuple[tuple[Network, str], ...]) -> str | None:
    return next((name for net, name in table if net.version == address.version and address in net), None)


def network(text: str) -> str:
    """A network that may be allowed, unchanged; ValueError for one that must not be, or is none."""
    try:
        given = ipaddress.ip_network(text)
    except ValueError as error:
        raise ValueError(f"'{text}' is not a network such as 10.1.0.0/16: {error}") from None
    if given.version == 6 and given.overlaps(_NAT64):
        raise ValueError(f"'{text}' reaches into {_NAT64}, which carries IPv4 addresses: name those instead")
    for net, name in NEVER:
        if net.version == given.version and given.overlaps(net):
            raise ValueError(f"'{text}' reaches into {net} ({name}), which is never connected to")
    return text
