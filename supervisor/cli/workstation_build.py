"""`cloud-code workstation build`: the images of workstations."""

from pathlib import Path

import click

from supervisor import images
from supervisor.cli.output import note
from supervisor.errors import CloudCodeError
from supervisor.workstations.engine import Engine, engine_socket


def _words(_ctx: click.Context, _parameter: click.Parameter, given: str | None) -> tuple[str, ...] | None:
    if given is None:
        return None
    words = tuple(word.strip() for word in given.split(",") if word.strip())
    for word in words:
        if word not in images.CLIS:
            raise click.BadParameter(f"{word!r} is not among {', '.join(images.CLIS)}.")
    return words


@click.command()
@click.argument("types", metavar="[TYPE]...", nargs=-1)
@click.option("--clis", callback=_words, metavar="NAMES", help="Coding CLIs to install, such as codex,aider.")
@click.option("--tag", metavar="NAME", help="The image's name, instead of cloud-code/TYPE; for one TYPE.")
@click.option("--base", metavar="IMAGE", help="The Debian-based image to build upon, instead of the type's own.")
@click.option(
    "--certificates",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="A folder of further certificate authorities (*.crt) that the image shall trust.",
)
@click.pass_context
def build(
    ctx: click.Context,
    types: tuple[str, ...],
    clis: tuple[str, ...] | None,
    tag: str | None,
    base: str | None,
    certificates: Path | None,
) -> int:
    """Build the images of workstation types; without a TYPE those that config.yaml has with `driver: docker`.

    Without --clis each gets the coding CLIs that its type names in config.yaml, as far as they can be installed.
    The agents in it are this user, so build as the user who runs the supervisor.
    """
    configured = _configured(ctx, needed=not types)
    wanted = types or tuple(configured)
    if not wanted:
        message = "No workstation has the driver docker, and no TYPE is named."
        raise CloudCodeError("E_IMAGE_TYPE", message, f"Types: {', '.join(images.known_types())}.")
    if tag is not None and len(wanted) != 1:
        raise click.UsageError("--tag is for one TYPE.")
    engine = Engine(engine_socket())
    engine.version()
    uid, gid = images.own_user()
    for kind in wanted:
        chosen = clis if clis is not None else tuple(c for c in configured.get(kind, ()) if c in images.CLIS)
        image = images.Wanted(
            kind=kind,
            tag=tag or f"cloud-code/{kind}",
            clis=chosen,
            base=base,
            certificates=certificates,
            uid=uid,
            gid=gid,
        )
        note(f"Building {image.tag}" + (f" with {', '.join(chosen)}" if chosen else "") + ": takes some minutes.")
        images.build(str(engine.path), image)
        note(f"{image.tag} is built.")
    return 0


def _configured(ctx: click.Context, *, needed: bool) -> dict[str, tuple[str, ...]]:
    """The types with the driver docker, and their CLIs; none without a configuration, unless it is needed."""
    from supervisor.config import load_config

    try:
        config = load_config(ctx.obj)
    except CloudCodeError:
        if needed:
            raise
        return {}
    return {k: config.clis_of_station(k) for k, s in config.workstations.items() if s.driver == "docker"}
