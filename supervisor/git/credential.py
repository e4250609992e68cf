"""A secret header for git over https (or http on this very machine)."""

import base64
import re
from dataclasses import dataclass, field
from typing import Literal

from supervisor.git.errors import GitError
from supervisor.git.names import is_loopback

_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::\d{1,5})?")
_HEADER = re.compile(r"[A-Za-z-]+: [\x20-\x7e]+")


@dataclass(frozen=True)
class Credential:
    """A header that goes to one host and nowhere else; it travels in the environment, never in argv."""

    host: str
    header: str = field(repr=False)
    scheme: Literal["https", "http"] = "https"

    @classmethod
    def http_header(cls, host: str, value: str, scheme: Literal["https", "http"] = "https") -> "Credential":
        """A whole header line, such as ``Authorization: Bearer …``; E_CREDENTIAL when it is not one.

        Without encryption it goes to the loopback interface only.
        """
        if scheme == "http" and not is_loopback(host):
            raise GitError("E_CREDENTIAL", "A credential goes over https only.")
        if _HOST.fullmatch(host) is None or _HEADER.fullmatch(value) is None:
            raise GitError("E_CREDENTIAL", "A credential needs a host name and one header line.")
        return cls(host, value, scheme)

    @classmethod
    def basic(cls, host: str, user: str, token: str, scheme: Literal["https", "http"] = "https") -> "Credential":
        """The header for a user and a token, as forges want it for git."""
        encoded = base64.b64encode(f"{user}:{token}".encode()).decode()
        return cls.http_header(host, f"Authorization: Basic {encoded}", scheme)

    def environment(self) -> dict[str, str]:
        """The variables that make git send it."""
        return {
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"http.{self.scheme}://{self.host}/.extraHeader",
            "GIT_CONFIG_VALUE_0": self.header,
        }
