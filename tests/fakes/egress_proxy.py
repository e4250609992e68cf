"""The egress proxy of a root, for which every name leads to loopback but those that begin with an address.

`10-1-2-3.example.org` leads to 10.1.2.3. That loopback is connected to is no setting: it is how this is made.
"""

import re
import sys
from pathlib import Path

from agent_daemon.protocol.paths import Root
from supervisor.egress.__main__ import serve
from supervisor.egress.dial import Dialer


async def resolve(host: str, _port: int) -> list[str]:
    first = host.partition(".")[0]
    return [first.replace("-", ".")] if re.fullmatch(r"\d+(-\d+){3}", first) else ["127.0.0.1"]


if __name__ == "__main__":
    sys.exit(serve(Root(Path(sys.argv[2])), Dialer(resolve, also=frozenset({"127.0.0.1"})), stays=True))
