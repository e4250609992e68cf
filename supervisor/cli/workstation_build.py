"""`cloud-code workstation build`: the images of workstations."""

import re
from pathlib import Path
from typing import Any

import click

from supervisor import images
from supervisor.cli.output import note
from supervisor.cli.place import as_owner
from supervisor.core.settings import PACKAGE
from supervisor.errors import CloudCodeError
from supervisor.workstations.container_options import clis_of_image, image_of, packages_of_image, recipe_of
from supervisor.workstations.containers import roots_on_image
from supervisor.workstations.engine import Engine, engine_socket
from supervisor.workstations.leavings import remove_unnamed


def _words(_ctx: click.Context, _parameter: click.Parameter, given: str | None) -> tuple[str, ...] | None:
    if given is None:
        return None
    words = tuple(word.strip() for word in given.split(",") if word.strip())
    for word in words:
        if word not in images.CLIS:
            raise click.BadParameter(f"{word!r} is not among {', '.join(images.CLIS)}.")
    return words


def _packages(_ctx: click.Context, _parameter: click.Parameter, given: str | None) -> tuple[str, ...] | None:
    if given is None:
        return None
    words = tuple(word.strip() for word in given.split(",") if word.strip())
    for word in words:
        if not re.fullmatch(PACKAGE, word):
            raise click.BadParameter(f"{word!r} is no name of a Debian package, such as libpq-dev.")
    return words


@click.command()
@click.argument("types", metavar="[TYPE]...", nargs=-1)
@click.option("--clis", callback=_words, metavar="NAMES", help="Coding CLIs to install, such as codex,aider.")
@click.option(
    "--packages", callback=_packages, metavar="NAMES", help="Debian packages to install, such as libpq-dev,gdb."
)
@click.option("--tag", metavar="NAME", help="The image's name, instead of cloud-code/TYPE; for one TYPE.")
@click.option("--base", metavar="IMAGE", help="The Debian-based image to build upon, instead of the type's own.")
@click.option(
    "--certificates",
    type=click.Path(path_type=Path, exists=True, file_okay=False, resolve_path=True),
    help="A folder of further certificate authorities (*.crt) that the image shall trust.",
)
@click.pass_context
def build(
    ctx: click.Context,
    types: tuple[str, ...],
    clis: tuple[str, ...] | None,
    packages: tuple[str, ...] | None,
    tag: str | None,
    base: str | None,
    certificates: Path | None,
) -> int:
    """Build the images of workstation types; without a TYPE those that config.yaml has with `driver: docker`.

    Without --clis each gets the coding CLIs of all types that config.yaml has it for, as far as they can be
    installed; without --packages, their `packages`. The agents in it are the user whose the root is if root
    builds, else this one, so build as the user who runs the supervisor.
    """
    configured = _configured(ctx, needed=not types)
    wanted = types or tuple(configured)
    if not wanted:
        message = "No workstation has the driver docker, and no TYPE is named."
        raise CloudCodeError("E_IMAGE_TYPE", message, f"Types: {', '.join(images.known_types())}.")
    for kind in wanted:
        images.refuse_unknown(kind)
    if tag is not None and len(wanted) != 1:
        raise click.UsageError("--tag is for one TYPE.")
    as_owner(ctx.obj)
    engine = Engine(engine_socket())
    engine.version()
    uid, gid = images.own_user()
    for kind in wanted:
        known_clis, known_packages = configured.get(kind, ((), ()))
        chosen = clis if clis is not None else known_clis
        image = images.Wanted(
            kind=kind,
            tag=tag or f"cloud-code/{kind}",
            clis=chosen,
            packages=packages if packages is not None else known_packages,
            base=base,
            certificates=certificates,
            uid=uid,
            gid=gid,
        )
        before = engine.image(image.tag)
        if before is not None:
            _heed_others(image, before, roots_on_image(engine, before["Id"]) - {str(ctx.obj.path)})
        note(f"Building {image.tag}" + (f" with {', '.join(chosen)}" if chosen else "") + ": takes some minutes.")
        images.build(str(engine.path), image)
        if before is not None:
            remove_unnamed(engine, before["Id"])
        note(f"{image.tag} is built.")
    return 0


def _heed_others(wanted: images.Wanted, before: dict[str, Any], roots: set[str]) -> None:
    """Tell that other roots take the new image, too. E_IMAGE_USER where theirs is for another user."""
    if not roots:
        return
    named, made_for = ", ".join(sorted(roots)), (before["Config"].get("Labels") or {}).get("cloud-code.uid")
    if made_for not in (None, str(wanted.uid)):
        raise CloudCodeError(
            "E_IMAGE_USER",
            f"{wanted.tag} was built for user {made_for}, whose workstations of {named} run in it.",
            f"Build one of your own: `workstation build {wanted.kind} --tag mine/{wanted.kind}`, and name it in "
            f"config.yaml (`image: mine/{wanted.kind}`).",
        )
    note(f"{wanted.tag} is also the image of workstations of {named}: they take the new one, too.")


def _configured(ctx: click.Context, *, needed: bool) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    """What to build for the types with the driver docker: the images' types, and the CLIs and packages of each.

    None without a configuration, unless it is needed; an image of the operator's own is not built here.
    """
    from supervisor.config import load_config

    try:
        config = load_config(ctx.obj)
    except CloudCodeError:
        if needed:
            raise
        return {}
    found = {}
    for kind, settings in config.workstations.items():
        if settings.driver == "docker" and (made := recipe_of(kind, settings)) is not None:
            image = image_of(kind, settings)
            found[made] = clis_of_image(config, image), packages_of_image(config, image)
        elif settings.driver == "docker" and needed:
            note(f"{image_of(kind, settings)}, for {kind}, is an image of your own, and is not built here.")
    return found
