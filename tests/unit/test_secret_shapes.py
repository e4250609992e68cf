"""What looks like a secret in a configuration, and what does not."""

import pytest

from supervisor.core.secret_shapes import looks_like_secret, secret_among


@pytest.mark.parametrize(
    "text",
    [
        "sk-ant-" + "api03-abcdefghijklmnop",
        "--header=Authorization: Bearer " + "abcdef0123456789",
        "ghp_" + "a1" * 18,
        "glpat-" + "a1B2" * 5,
        "AKIA" + "A1B2C3D4" * 2,
        "--api-key=" + "f00" * 8,
        'api_key="' + "f00" * 8 + '"',
        "https://me:" + "secret1@host/x",
        "eyJhbGciOiJI." + "eyJzdWIiOiIx",
    ],
)
def test_secrets(text: str) -> None:
    assert looks_like_secret(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sk-short",
        "--max-tokens=100000",
        "--api-key-file=/run/secrets/openai-key-0001",
        "model_providers.x.env_key=OPENAI_API_KEY_2",
        "OPENAI_API_KEY",
        "--model=claude-sonnet-4-5-20250929",
        "https://127.0.0.1:8000/v1",
        "https://{user}:{password}@host",
        "token=${DOCS_TOKEN}",
        "--keyring=default",
        "monkey business 0123456789abcdef",
    ],
)
def test_what_is_none(text: str) -> None:
    assert not looks_like_secret(text)


def test_the_value_after_its_option() -> None:
    assert secret_among(("--quiet", "--api-key", "f00" * 8)) == 2
    assert secret_among(("--api-key-file", "/run/key-0001-0002-0003", "--max-tokens", "1000000000000000")) is None
    assert secret_among(()) is None
