"""What an engine lacks for the workstations of one type, each lack with what mends it."""

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from agent_daemon.protocol.errors import Problem
from agent_daemon.protocol.paths import Root
from supervisor.core.reach import allowed_by, lacking, out_of_reach
from supervisor.core.remap import engine_is_rootless, engine_remaps
from supervisor.core.settings import Config, WorkstationSettings
from supervisor.core.words import count
from supervisor.disk import ENGINE_MEND, nearest, space_of
from supervisor.doctor import Check, disk_check
from supervisor.egress.files import policy_names, running_proxy
from supervisor.egress.program import UNIT, is_installed
from supervisor.errors import CloudCodeError
from supervisor.images import CLIS, known_types
from supervisor.workstations.container_options import clis_of_image, image_of, recipe_of
from supervisor.workstations.engine import Engine, engine_socket
from supervisor.workstations.remap import COMMAND, free_refusal, missing_hole
from supervisor.workstations.usage import unmounted_groups

OLDEST = (20, 10)


def check_docker(config: Config, kind: str) -> Iterator[Check]:
    """Look at the engine, and at the image of this type; never raises for what it finds."""
    settings = config.workstations[kind]
    wanted = tuple(sorted(set(CLIS).intersection(config.clis_of_station(kind))))
    name = f"workstation {kind}"
    try:
        engine = Engine(engine_socket())
        version, about = engine.version(), engine.get("/info")
        yield version_check(name, str(engine.path), version)
        yield from program_checks(name, shutil.which("docker"))
        yield from engine_checks(name, about, os.getuid())
        yield from engine_disk_checks(name, str(about.get("DockerRootDir") or ""))
        yield from memory_checks(name, about, _kernel("cgroup"), _kernel("mountinfo"))
        yield from remap_checks(name, about, settings)
        found = engine.image(image_of(kind, settings))
        mend = build_command(config, kind)
        wanted += settings.packages or ()
        yield from image_checks(name, image_of(kind, settings), wanted, found, os.getuid(), mend)
    except CloudCodeError as error:
        yield Check(name=name, status="error", detail=f"{error.code}: {error.message}", mend=error.mend)
    if settings.network == "open":
        detail = "its agents reach every address that this host reaches (network: open)"
        mend = "`network: allow` connects them to what `egress` lists; a firewall of this host can bound them, too"
        yield Check(name=name, status="warning", detail=detail, mend=mend)


def version_check(name: str, place: str, version: str) -> Check:
    """Whether an engine that calls itself this is new enough."""
    detail = f"Docker engine {version or 'of unknown version'} on {place}"
    found = re.match(r"(\d+)\.(\d+)", version)
    if found and (int(found[1]), int(found[2])) < OLDEST:
        wanted = ".".join(map(str, OLDEST))
        return Check(name=name, status="error", detail=detail, mend=f"install Docker {wanted} or newer")
    return Check(name=name, status="ok", detail=detail)


def program_checks(name: str, program: str | None) -> Iterator[Check]:
    """The engine's program, which starts containers and builds images; a package of its own since Debian 13."""
    if program is None:
        detail = "the program `docker` is not on PATH: no container can be started"
        yield Check(
            name=name,
            status="error",
            detail=detail,
            mend="sudo apt-get install docker-cli, before Debian 13 docker.io",
        )


def engine_disk_checks(name: str, folder: str) -> Iterator[Check]:
    """Whether what containers write has room; nothing where all is well, or the folder is none of this host."""
    try:
        free = space_of(nearest(Path(folder))).free_bytes
    except OSError:
        return
    found = disk_check(Path(folder), free)
    if found.status != "ok":
        detail = f"{found.detail} for the Docker engine ({folder})"
        yield replace(found, name=name, detail=detail, mend=ENGINE_MEND)


def engine_checks(name: str, about: dict[str, Any], uid: int) -> Iterator[Check]:
    """What the engine says of itself that a workstation cannot do with, or only with less."""
    options = " ".join(about.get("SecurityOptions") or ())
    if engine_is_rootless(about):
        detail = "E_ROOTLESS_ENGINE: the engine is rootless; in it this user's files belong to root"
        yield Check(name=name, status="error", detail=detail, mend="use the system's engine: unset DOCKER_HOST")
    if "name=seccomp" not in options:
        detail = "the engine filters no system calls (seccomp)"
        yield Check(name=name, status="warning", detail=detail, mend="use a kernel and an engine with seccomp")
    lacks = [what for what, key in (("memory", "MemoryLimit"), ("processes", "PidsLimit")) if not about.get(key)]
    if lacks:
        detail = f"the engine cannot limit {' and '.join(lacks)}"
        yield Check(name=name, status="warning", detail=detail, mend="give the engine the control groups for it")
    if not about.get("LiveRestoreEnabled"):
        detail = "a restart of the engine ends the agents under work; they go on from their files then"
        mend = 'with {"live-restore": true} in /etc/docker/daemon.json they work on meanwhile'
        yield Check(name=name, status="warning", detail=detail, mend=mend)
    if uid == 0:
        detail = "the supervisor is root, and so are its agents in their containers, if without any capability"
        yield Check(name=name, status="warning", detail=detail, mend="run it as a user of its own")


def memory_checks(name: str, about: dict[str, Any], own: str, mounts: str) -> Iterator[Check]:
    """Whether the engine can see that memory ran out (`workstation.out_of_memory`)."""
    lacks = unmounted_groups(own, mounts) if about.get("CgroupVersion", "1") == "1" else []
    for group in lacks:
        place = f"/sys/fs/cgroup/{group.removeprefix('name=')}"
        detail = f"the control groups `{group}` are mounted nowhere: containerd 1.6 tells no lack of memory then"
        mend = f"sudo mkdir -p {place} && sudo mount -t cgroup -o {group} cgroup {place}"
        yield Check(name=name, status="warning", detail=detail, mend=mend)


def _kernel(what: str) -> str:
    try:
        return Path("/proc/self", what).read_text()
    except OSError:
        return ""


def remap_checks(name: str, about: dict[str, Any], settings: WorkstationSettings) -> Iterator[Check]:
    """Whether the engine's map of users, if it has one, lets a workstation write, and be root inside if *free*."""
    refused = free_refusal(about) if settings.is_free else None
    lack = missing_hole(about, os.getuid(), os.getgid()) if engine_remaps(about) else ""
    if refused is not None:
        yield Check(name=name, status="error", detail=f"{refused.code}: {refused.message}", mend=refused.mend)
    elif lack:
        detail = f"the engine remaps users, and a workstation cannot write into its folders: {lack}"
        yield Check(name=name, status="error", detail=detail, mend=f"{COMMAND}; or unset `userns-remap`")
    elif engine_remaps(about):
        yield Check(name=name, status="ok", detail="the engine remaps users: root inside is nobody on this host")


def unfit_engine(config: Config, root: Root) -> list[Problem]:
    """The types of workstations that this host's engine cannot have as they are configured.

    An engine that does not answer is no mistake of the configuration: `doctor` tells of it.
    """
    free = [kind for kind, settings in config.workstations.items() if settings.is_free]
    try:
        refused = free_refusal(Engine(engine_socket()).get("/info")) if free else None
    except CloudCodeError:
        refused = None
    if refused is None:
        return []
    return [
        Problem(
            code=refused.code,
            message=f"workstations.{kind}: {refused.message.removesuffix('.')}",
            file=str(root.config),
            place=f"workstations.{kind}.preset",
            expected="an engine that remaps users and leaves the supervisor's be",
            mend=refused.mend,
        )
        for kind in free
    ]


def build_command(config: Config, kind: str) -> str:
    """What builds the image of this type, for all types that have the same."""
    settings = config.workstations[kind]
    recipe = recipe_of(kind, settings)
    if recipe is None:
        image = image_of(kind, settings)
        return f"build {image} upon one of Cloud Code's, or name one of these (docs/workstations.md)"
    if recipe not in known_types():
        return f"give it one of Cloud Code's: `image: cloud-code/backend` under workstations.{kind} in config.yaml"
    clis = clis_of_image(config, image_of(kind, settings))
    return f"cloud-code workstation build {recipe}" + (f" --clis {','.join(clis)}" if clis else "")


def image_checks(
    name: str, image: str, wanted: tuple[str, ...], found: dict[str, Any] | None, uid: int, mend: str
) -> Iterator[Check]:
    """Whether the image is there, was made for this user, and has the CLIs and packages that are configured."""
    if found is None:
        yield Check(name=name, status="error", detail=f"E_NO_IMAGE: the engine has no image {image}", mend=mend)
        return
    labels = (found.get("Config") or {}).get("Labels") or {}
    size = f"{found.get('Size', 0) / 1e9:.2f} GB"
    yield Check(name=name, status="ok", detail=f"image {image}, {size}")
    made_for = labels.get("cloud-code.uid")
    if made_for is not None and made_for != str(uid):
        detail = f"E_IMAGE_USER: the image {image} was built for user {made_for}, and this is {uid}"
        yield Check(name=name, status="error", detail=detail, mend=mend)
    built = f"{labels.get('cloud-code.clis', '')} {labels.get('cloud-code.packages', '')}".split()
    lacking = [one for one in wanted if one not in built]
    if lacking and labels:
        detail = f"the image {image} was built without {', '.join(lacking)}"
        yield Check(name=name, status="warning", detail=detail, mend=mend)


def check_egress(root: Root, config: Config, kind: str) -> Iterator[Check]:
    """Whether the proxy of the workstations of a type is there, and lets their coding CLIs reach their models."""
    if not config.workstations[kind].controlled:
        return
    name, running = f"workstation {kind}", running_proxy(root)
    if running is not None and is_installed(running):
        allowed = count(len(allowed_by(config, kind)), "host and port", "hosts and ports")
        yield Check(
            name=name, status="ok", detail=f"the egress proxy runs, process {running.pid}; {allowed} listed"
        )
    elif running is not None:
        detail = (
            f"the egress proxy runs in another program than this version's (it is of {running.program_version})"
        )
        mend = (
            f"sudo cloud-code upgrade; without systemd `kill {running.pid}`: what it carries just now is cut off"
        )
        yield Check(name=name, status="warning", detail=detail, mend=mend)
    elif policy_names(root):
        detail = "E_EGRESS_AWAY: the egress proxy does not run: no workstation connects"
        mend = f"sudo systemctl start {UNIT}; without systemd a running supervisor starts it"
        yield Check(name=name, status="error", detail=detail, mend=mend)
    else:
        yield Check(name=name, status="ok", detail="the egress proxy is started with the first workstation")
    for url in out_of_reach(config, kind):
        detail = f"no workstation connects to {url}: it has no name, or is this very host"
        mend = "give its host a name, with `egress_networks` for one of your own network; or `network: open`"
        yield Check(name=name, status="warning", detail=detail, mend=mend)
    if missing := lacking(config, kind):
        detail = f"its coding CLIs talk to {', '.join(missing)}, which `egress` does not list"
        yield Check(
            name=name, status="warning", detail=detail, mend="add it, or `clis`, which stands for all of it"
        )
