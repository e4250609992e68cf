"""`cloud-code init`: a root that is ready to be worked on."""

import json
import re
from pathlib import Path

import click

from agent_daemon.clis import ADAPTERS
from agent_daemon.protocol.paths import Root, check_project
from supervisor.cli.output import say
from supervisor.cli.place import find_root
from supervisor.config import parse_config
from supervisor.core.settings import PUBLIC_FORGES
from supervisor.errors import CloudCodeError, refuse_root_in, writing
from supervisor.git.names import is_address
from supervisor.packaged import packaged_file

EXAMPLE_TASK = "example.yaml.txt"
_LOCAL_DRIVER = re.compile(r"^    driver: local .*\n +# `docker` means .*\n", re.MULTILINE)
_LOCAL_FORGE = re.compile(r"^    # forge: local .*\n", re.MULTILINE)
_REPOSITORY = re.compile(r"^(    repository: )/path/to/repository( .*)$", re.MULTILINE)
_DOCKER_DRIVER = "    driver: docker                    # containers (docs/workstations.md)\n"
# Such as acme/app; no name there ends like a folder of git.
_NAME_ON_FORGE = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)+(?<!\.git)")
_CLIS = [name for name in ADAPTERS if name != "command"]  # that one needs to be told what to run


@click.command()
@click.argument("folder", metavar="[ROOT]", required=False)
@click.option("--project", metavar="NAME", help="Name of the first project (with --repository).")
@click.option(
    "--repository", metavar="REPOSITORY", help="Its git repository: a path, a URL, or with --forge OWNER/NAME."
)
@click.option(
    "--forge", type=click.Choice(list(PUBLIC_FORGES)), help="Where it is: labelling an issue there starts a task."
)
@click.option("--url", metavar="URL", help="Of a self-hosted forge (with --forge).")
@click.option("--cli", "cli_name", type=click.Choice(_CLIS), help="The coding CLI to use.")
@click.pass_context
def init(
    ctx: click.Context,
    folder: str | None,
    project: str | None,
    repository: str | None,
    forge: str | None,
    url: str | None,
    cli_name: str | None,
) -> None:
    """Write a commented config.yaml and make the folders of a root.

    Without ROOT: the one that --root, $CLOUD_CODE_ROOT or the current folder name, else /srv/cloud-code.
    Nothing that exists is overwritten, so that it does no harm to run it again.
    """
    if (project is None) != (repository is None):
        raise click.UsageError("--project and --repository go together.")
    if (forge is not None and repository is None) or (url is not None and forge is None):
        raise click.UsageError("--forge goes with --repository, and --url with --forge.")
    root: Root = find_root(folder) if folder else ctx.obj
    text = configuration(project, repository, cli_name, forge=forge, url=url)
    parse_config(text.encode(), file="the new config.yaml")
    wanted = project is not None or cli_name is not None
    written = make_root(root, text, project or "my-project")
    if written:
        say(f"{root.config}: written")
    elif wanted:
        raise CloudCodeError(
            "E_CONFIG_EXISTS", f"{root.config} exists and is left as it is.", "Edit it, or choose another root."
        )
    else:
        say(f"{root.config}: exists, left as it is")
    _say_next(ctx, root, ready=project is not None or not written, on_forge=(forge, project) if forge else None)


def make_root(root: Root, text: str, project: str = "my-project") -> bool:
    """The folders of a root, its configuration and an example of a task; whether there was no configuration."""
    refuse_root_in(root.path)
    _make_folders(root)
    written = _write_new(root.config, text, mode=0o640)
    example = packaged_file("example-task.yaml").read_text()
    example = example.replace("project: my-project", f"project: {project}")
    _write_new(root.tasks / EXAMPLE_TASK, example, mode=0o644)
    return written


def configuration(
    project: str | None,
    repository: str | None,
    cli_name: str | None,
    *,
    forge: str | None = None,
    url: str | None = None,
    service: bool = False,
) -> str:
    """The text of a new `config.yaml`; CloudCodeError for a name that cannot be a project's.

    `service`: its workstations are containers, for a service may not have others.
    """
    text = packaged_file("config.yaml").read_text()
    if service:
        text = _LOCAL_DRIVER.sub(_DOCKER_DRIVER, text, count=1)
    if project is not None and repository is not None:
        try:
            check_project(project)
        except ValueError as error:
            raise CloudCodeError("E_PROJECT_NAME", f"{error}.", "Choose another --project.") from None
        text = text.replace("  my-project: ", f"  {project}: ", 1)
        shown = scalar(repository if forge is not None else _address(repository))
        text = _REPOSITORY.sub(lambda m: f"{m[1]}{shown}{'' if forge else m[2]}", text, count=1)
    if forge is not None:
        lines = [f"    forge: {forge}"] + ([f"    url: {scalar(url)}"] if url else [])
        lines.append(f"    auth: {{token: {{secret: {_secret_of(forge)}}}}}")
        text = _LOCAL_FORGE.sub("\n".join(lines) + "\n", text, count=1)
    if cli_name is not None:
        text = text.replace("clis: [codex]", f"clis: [{cli_name}]", 1)
    return text


def _address(repository: str) -> str:
    """An address as it is, a path as an absolute one: it was given relative to where the person stands.

    E_NO_REPOSITORY for what may as well be the name of a repository on a forge.
    """
    if is_address(repository):
        return repository
    path = Path(repository).expanduser().resolve()
    if _NAME_ON_FORGE.fullmatch(repository) and not path.exists():
        raise CloudCodeError(
            "E_NO_REPOSITORY",
            f"There is no {path}.",
            "Of a repository on GitHub or GitLab name the forge, too (--forge github); else give its path or URL.",
        )
    return str(path)


def _secret_of(forge: str) -> str:
    """The name of the secret that holds the supervisor's token."""
    return f"forges/{forge}"


def scalar(text: str) -> str:
    """`text` as a YAML scalar on one line, in quotes where it needs them."""
    return text if re.fullmatch(r"[A-Za-z/.][A-Za-z0-9_./@-]*(:[A-Za-z0-9_./@-]+)*", text) else json.dumps(text)


def _make_folders(root: Root) -> None:
    from supervisor.app import open_root

    with writing(root.path):
        open_root(root)


def _write_new(path: Path, text: str, mode: int) -> bool:
    """Write a file that is not there yet; returns whether it was written."""
    try:
        with writing(path.parent), path.open("x", encoding="utf-8") as file:
            path.chmod(mode)
            file.write(text)
    except FileExistsError:
        return False
    return True


def _say_next(ctx: click.Context, root: Root, *, ready: bool, on_forge: tuple[str, str | None] | None) -> None:
    say(f"{root.tasks / EXAMPLE_TASK}: an example to copy")
    option = "" if find_root(None) == root else f" --root {root.path}"
    run, check = f"cloud-code{option} run", f"cloud-code{option} check"
    add = f"cloud-code{option} task add 'What is to be done'"
    steps = [check, run, add]
    if not ready:
        steps.insert(0, f"edit {root.config}: the name and the repository of a project")
    if on_forge is not None:
        forge, project = on_forge
        token = f"cloud-code{option} secret set {_secret_of(forge)}   # its token (docs/forges.md)"
        label = "set the label cloud-code on an issue"
        steps = [token, f"cloud-code{option} project check {project}", run, label]
    say("Next:")
    for number, step in enumerate(steps, 1):
        say(f"  {number}. {step}")
