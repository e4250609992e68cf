"""Patterns of paths, as people write them in `protected_paths`; pure."""

import re
from functools import lru_cache

_TOKENS = re.compile(r"\*\*/|\*\*|\*|\?|[^*?]+")
_MEANING = {"**/": r"(?:[^/]+/)*", "**": r".*", "*": r"[^/]*", "?": r"[^/]"}


@lru_cache(maxsize=1_000)
def compile_glob(pattern: str) -> re.Pattern[str]:
    """``*`` and ``?`` stay within a name, ``**`` crosses folders; a folder's name covers what is in it.

    A pattern without a slash matches a name in every folder.
    """
    pattern = pattern.strip("/")
    if "/" not in pattern:
        pattern = f"**/{pattern}"
    meaning = "".join(_MEANING.get(token, re.escape(token)) for token in _TOKENS.findall(pattern))
    return re.compile(rf"{meaning}(?:/.*)?", re.DOTALL)


def literal_start(pattern: str) -> str:
    """What stands before the pattern's first wildcard."""
    return re.split(r"[*?]", pattern, maxsplit=1)[0]
