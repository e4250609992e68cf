"""Where a credential for git may go."""

import pytest

from supervisor.git.credential import Credential
from supervisor.git.errors import GitError
from supervisor.git.mirror import header_for
from supervisor.git.names import check_url


def test_plain_http_is_for_this_machine_alone() -> None:
    check_url("http://127.0.0.1:8080/acme/app.git")
    for url in ("http://127.0.0.1.example.org/a.git", "http://git.example.org/a.git", "http://u@127.0.0.1/a.git"):
        with pytest.raises(GitError):
            check_url(url)
    with pytest.raises(GitError, match="https only"):
        Credential.basic("git.example.org", "bot", "hunter2", "http")


@pytest.mark.parametrize(
    ("url", "keys"),
    [
        ("https://git.example.org/a.git", {"GIT_CONFIG_KEY_0"}),
        ("http://127.0.0.1:8080/a.git", {"GIT_ALLOW_PROTOCOL"}),
        ("ssh://git.example.org/a.git", set()),
        ("/srv/a.git", set()),
    ],
)
def test_a_credential_goes_to_its_own_kind_of_address(url: str, keys: set[str]) -> None:
    sent = header_for(url, Credential.basic("git.example.org", "bot", "hunter2"))
    assert sent.keys() & {"GIT_CONFIG_KEY_0", "GIT_ALLOW_PROTOCOL"} == keys
    local = header_for("http://127.0.0.1:8080/a.git", Credential.basic("127.0.0.1:8080", "bot", "x", "http"))
    assert local["GIT_CONFIG_KEY_0"] == "http.http://127.0.0.1:8080/.extraHeader"
    assert "hunter2" not in repr(Credential.basic("git.example.org", "bot", "hunter2"))
