"""From a name that is allowed to a connection: resolve it, judge every address, connect to one that passed.

The connection is made to the very address that was judged; the name is not resolved a second time.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from supervisor.core.addresses import reason_against
from supervisor.core.egress import ADDRESS, Policy, RefusedError, Target

RESOLVE_SECONDS = 10.0
CONNECT_SECONDS = 10.0
MAX_ADDRESSES = 4
# Of no host (RFC 5737, RFC 3849).
_FOREIGN = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Resolve = Callable[[str, int], Awaitable[list[str]]]
Open = Callable[[str, int], Awaitable[Streams]]


class UnreachableError(Exception):
    """An allowed host cannot be reached: no such name, no answer."""


async def resolve(host: str, port: int) -> list[str]:
    """The addresses of a name by this host's resolver, each once, in its order."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


async def open_connection(address: str, port: int) -> Streams:
    """A connection to an address; OSError."""
    made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    try:
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        await asyncio.get_running_loop().sock_connect(made, (address, port))
        return await asyncio.open_connection(sock=made)
    except BaseException:
        made.close()
        raise


@dataclass(frozen=True)
class Dialer:
    """Connects to targets. `also` are addresses that are taken although they are not public: for tests alone."""

    resolve: Resolve = resolve
    open: Open = open_connection
    also: frozenset[str] = field(default=frozenset())

    async def connect(self, target: Target, policy: Policy) -> Streams:
        """A connection to a target. RefusedError E_EGRESS_NOT_ALLOWED, E_EGRESS_ADDRESS; UnreachableError."""
        policy.check(target)
        try:
            found = await asyncio.wait_for(self.resolve(target.host, target.port), RESOLVE_SECONDS)
        except (OSError, UnicodeError, TimeoutError) as error:
            raise UnreachableError(f"{target.host} cannot be resolved: {_words(error)}") from None
        failure = f"{target.host} has no address"
        for address in self._judged(target, found, policy)[:MAX_ADDRESSES]:
            try:
                return await asyncio.wait_for(self.open(address, target.port), CONNECT_SECONDS)
            except (OSError, TimeoutError) as error:
                failure = f"{target} does not answer: {_words(error)}"
        raise UnreachableError(failure)

    def _judged(self, target: Target, found: list[str], policy: Policy) -> list[str]:
        """The addresses that may be connected to; RefusedError when there are only others."""
        against = {address: self._against(address, policy) for address in found}
        good = [address for address, reason in against.items() if reason is None]
        if against and not good:
            address, reason = next(iter(against.items()))
            message = f"{target.host} leads to {address} ({reason}), which no workstation is connected to"
            raise RefusedError(ADDRESS, message)
        return good

    def _against(self, address: str, policy: Policy) -> str | None:
        if address in self.also:
            return None
        return reason_against(address, policy.networks) or ("this host" if is_own(address) else None)


def is_own(address: str) -> bool:
    """Whether an address is one of this host: only those can be listened on. Nothing is sent.

    Where the kernel lets anybody listen on any (`ip_nonlocal_bind`), by the address that it would send from.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    if not _can_listen(family, address):
        return False
    if not _can_listen(family, _FOREIGN[family]):
        return True
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((address, 9))
        except OSError:
            return False  # no way leads there
        return bool(probe.getsockname()[0] == probe.getpeername()[0])


def _can_listen(family: socket.AddressFamily, address: str) -> bool:
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True


def _words(error: Exception) -> str:
    return getattr(error, "strerror", None) or (
        "no answer in time" if isinstance(error, TimeoutError) else "odd name"
    )
