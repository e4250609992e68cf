"""What a workstation's container is given of this host: folders, limits, rights; and nothing else of it."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent_daemon import egress, reclaiming
from agent_daemon.protocol.paths import Root
from supervisor.core.settings import Config, WorkstationSettings
from supervisor.egress.files import SOCKET
from supervisor.errors import CloudCodeError
from supervisor.images import CLIS, known_types
from supervisor.workstations.containers import (
    HELPER_LABEL,
    PATH_LABEL,
    ROOT_LABEL,
    RUN_LABEL,
    WORKSTATION_LABEL,
)
from supervisor.workstations.tools import Tools

KEYS = "/run/cloud-code"
GATE = "/run/cloud-code-egress"
TOOLS = "/tools"
# The daemon needs up to ten seconds to be sure that nothing of its coding CLI is left.
STOP_SECONDS = 13
# What sudo and apt need; by it root inside is still less than root, and outside it is nobody (`preset: free`).
FREE_CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID")
LOG_OPTIONS = ("max-size=10m", "max-file=2")


@dataclass(frozen=True, kw_only=True)
class Station:
    """One workstation of one root, as an engine knows it."""

    root: Root
    root_id: str
    name: str
    kind: str
    settings: WorkstationSettings

    @property
    def container(self) -> str:
        return f"cc-{self.root_id}-{self.name}"

    @property
    def tools(self) -> Tools:
        return Tools(root=self.root, workstation=self.name, usual=f"{self.container}-tools")

    @property
    def volume(self) -> str:
        """That of its tools and its home, as of now. E_TOOLS_FILE."""
        return self.tools.volume

    @property
    def image(self) -> str:
        return image_of(self.kind, self.settings)

    def labels(self, run: str) -> dict[str, str]:
        return self._common_labels() | {RUN_LABEL: run}

    def helper(self, what: str) -> tuple[str, dict[str, str]]:
        """The name and the labels of a container that does one thing in the daemon's place."""
        return f"{self.container}-{what}", self._common_labels() | {HELPER_LABEL: what}

    def _common_labels(self) -> dict[str, str]:
        return {
            ROOT_LABEL: self.root_id,
            PATH_LABEL: str(self.root.path),
            WORKSTATION_LABEL: self.name,
        }

    def folders(self) -> tuple[tuple[Path, bool], ...]:
        """The folders of this host that it sees, each at its own path, and whether it may write there."""
        return (
            (self.root.mail_in(self.name), False),
            (self.root.mail_out(self.name), True),
            (self.root.workspace(self.name), True),
            (self.root.mirrors / self.settings.trust_domain, False),
        )


def image_of(kind: str, settings: WorkstationSettings) -> str:
    return settings.image or f"cloud-code/{kind}"


def recipe_of(kind: str, settings: WorkstationSettings) -> str | None:
    """The type that `workstation build` builds this one's image for; None for an image of the operator's own."""
    if settings.image is None:
        return kind
    prefix, _, made = settings.image.removesuffix(":latest").rpartition("/")
    return made if prefix == "cloud-code" and made in known_types() else None


def clis_of_image(config: Config, image: str) -> tuple[str, ...]:
    """The coding CLIs that can be installed, of all types with this image."""
    of_it = _types_of_image(config, image)
    return tuple(sorted({cli for kind in of_it for cli in config.clis_of_station(kind)}.intersection(CLIS)))


def packages_of_image(config: Config, image: str) -> tuple[str, ...]:
    """The packages that are configured for it, of all types with this image."""
    types = [config.workstations[kind] for kind in _types_of_image(config, image)]
    return tuple(sorted({package for settings in types for package in settings.packages or ()}))


def _types_of_image(config: Config, image: str) -> list[str]:
    return [k for k, s in config.workstations.items() if s.driver == "docker" and image_of(k, s) == image]


def network_of(root_id: str) -> str:
    return f"cc-{root_id}"


def bridge_of(root_id: str) -> str:
    """The network's interface: the kernel takes 15 characters."""
    return f"cc-{hashlib.sha256(root_id.encode()).hexdigest()[:10]}"


def prompt_folders(config: Config | None, settings: WorkstationSettings) -> tuple[Path, ...]:
    """The prompt templates of the projects that it works on."""
    projects = config.projects.values() if config else ()
    named = {p.prompt_folder for p in projects if p.prompt_folder and p.trust_domain == settings.trust_domain}
    return tuple(Path(folder) for folder in sorted(named) if Path(folder).is_dir())


def options(
    station: Station,
    keys: Path,
    prompts: Sequence[Path],
    user: str,
    gate: Path | None = None,
    *,
    free: bool = False,
) -> dict[str, Any]:
    """What `docker run` is told for a workstation's daemon and for what stands in for it.

    No rights beyond those of a plain user, whatever the image says: no capability, none to be gained, the
    image itself read-only; a `free` one can gain a few, and writes in a layer of its own over the image.
    Nothing secret is among these, for `docker inspect` shows them to the whole group.
    `gate` is the folder with the socket of its way out, if it has one.
    """
    limits = station.settings.limits(station.kind)
    binds = [*station.folders(), *((folder, False) for folder in prompts)]
    sign = str(station.root.mail_out(station.name) / "workstation.yaml")
    way_out = {egress.VARIABLE: f"{GATE}/{SOCKET}"} if gate is not None else {}
    return {
        "init": True,
        "user": user,
        **_rights(station.name, free),
        "memory": limits.memory,
        "memory_swap": limits.memory,
        "cpus": limits.cpus,
        "pids_limit": limits.pids,
        "hostname": station.name,
        "workdir": station.root.workspace(station.name),
        "envs": {
            "CLOUD_CODE_SIGN": sign,
            **({reclaiming.VARIABLE: "1", "DEBIAN_FRONTEND": "noninteractive"} if free else {}),
            **way_out,
            **egress.proxy_variables(way_out),
        },
        "log_driver": "json-file",
        "log_options": list(LOG_OPTIONS),
        "stop_timeout": STOP_SECONDS,
        "pull": "never",
        "mounts": [_bind(path, str(path), writable) for path, writable in binds]
        + [
            _bind(keys, KEYS, False),
            *([_bind(gate, GATE, False)] if gate is not None else []),
            ["type=volume", f"source={station.volume}", f"target={TOOLS}"],
            ["type=volume", "target=/tmp"],
            ["type=volume", "target=/var/tmp"],
        ],
    }


def _rights(name: str, free: bool) -> dict[str, Any]:
    if free:  # (sudo looks its own host up, and complains where it finds nothing)
        known = [(name, "127.0.0.1")]
        return {"cap_drop": ["ALL"], "cap_add": list(FREE_CAPABILITIES), "add_hosts": known}
    return {"cap_drop": ["ALL"], "security_options": ["no-new-privileges"], "read_only": True}


def _bind(source: Path, target: str, writable: bool) -> list[str]:
    if "," in str(source) or '"' in str(source):
        message = f"{source} has a character in its name that Docker's mounts cannot have."
        raise CloudCodeError("E_MOUNT_PATH", message, "Use a folder without commas and quotes in its path.")
    return ["type=bind", f"source={source}", f"target={target}", *([] if writable else ["readonly"])]
