"""Files that come with the program: in an installed package, or in the repository's `config/` and `docs/`."""

from pathlib import Path

import supervisor


def packaged_file(name: str) -> Path:
    """The path of a file of `config/` or `docs/`; FileNotFoundError when the installation is not whole."""
    package = Path(supervisor.__file__).parent
    for folder in (package / "_config", package.parent / "config", package.parent / "docs"):
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(2, "this installation of Cloud Code lacks the file", name)


def packaged_folder(name: str) -> Path:
    """A folder that comes with the program, installed as ``_NAME`` or as the repository's; FileNotFoundError."""
    package = Path(supervisor.__file__).parent
    for folder in (package / f"_{name}", package.parent / name):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(2, "this installation of Cloud Code lacks the folder", name)
