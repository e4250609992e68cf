"""A repository's own conventions, found by name: the prompt names the files and never pastes them."""

from pathlib import Path

_NAMES = (
    "CLAUDE.md",
    ".claude/CLAUDE.md",
    "AGENTS.md",
    "GEMINI.md",
    ".github/copilot-instructions.md",
    ".cursorrules",
    *(f"{folder}CONTRIBUTING{end}" for folder in ("", ".github/", "docs/") for end in ("", ".md", ".rst", ".txt")),
    "STYLEGUIDE.md",
    ".editorconfig",
    ".pre-commit-config.yaml",
)


def find_conventions(worktree: Path) -> tuple[str, ...]:
    """The files of these names that are there, relative to the worktree; none of another name is ever told."""
    return tuple(name for name in _NAMES if _is_file(worktree / name))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False
