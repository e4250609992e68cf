"""Texts that look like secrets: by the form that a service gives its tokens, or by what is said before them. Pure.

Forms from the public documentation of OpenAI, Anthropic, GitHub, GitLab, Slack, AWS, Google, npm and Hugging Face.
"""

import re

_SHAPES = re.compile(
    r"\bsk-[A-Za-z0-9_-]{20,}|\bgh[pousr]_[A-Za-z0-9]{30,}|\bgithub_pat_\w{30,}|\bgl[a-z]{2,6}-[\w-]{20,}"
    r"|\bxox[a-z]-[\w-]{10,}|\bAKIA[0-9A-Z]{16}\b|\bAIza[\w-]{30,}|\bnpm_[A-Za-z0-9]{30,}|\bhf_[A-Za-z0-9]{30,}"
    r"|\beyJ[\w-]{8,}\.eyJ[\w-]{8,}|-----BEGIN [A-Z ]*PRIVATE KEY|://[^/\s:@]+:[^/\s@{$]{6,}@"
)
_SAID = re.compile(
    r"(?i:key|token|secret|passw(?:or)?d|credential|authorization)[\w.-]*[\"']?"
    r"\s*[=: ]\s*(?:(?i:bearer|basic)\s+)?[\"']?(?P<value>[^\s\"',}]+)"
)
_RANDOM = re.compile(r"(?=.*[0-9])(?=.*[A-Za-z])[A-Za-z0-9_+=.-]{16,}")
_NAME = re.compile(r"[A-Z][A-Z0-9_]*|[a-z]+([_-][a-z]+)*")


def looks_like_secret(text: str) -> bool:
    """Whether a secret seems to stand in the text; a path, a number or the name of a variable is none."""
    return _SHAPES.search(text) is not None or any(
        _RANDOM.fullmatch(match["value"]) and not _NAME.fullmatch(match["value"]) for match in _SAID.finditer(text)
    )


def secret_among(arguments: tuple[str, ...]) -> int | None:
    """The place of the first argument that holds a secret, or follows the option that asks for one."""
    for place, argument in enumerate(arguments):
        before = arguments[place - 1] if place and arguments[place - 1].startswith("-") else ""
        if looks_like_secret(argument) or ("=" not in before and looks_like_secret(f"{before} {argument}")):
            return place
    return None
