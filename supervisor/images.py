"""The images of workstations: the build context put together, and the engine made to build it."""

import base64
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import agent_daemon
from agent_daemon import __version__
from supervisor.errors import CloudCodeError
from supervisor.packaged import packaged_folder

# The coding CLIs that the recipes can install; any other program is the operator's own to put into an image.
CLIS = ("aider", "claude-code", "codex", "gemini", "opencode")
DISTRIBUTION = "cloud-code"
# A wheel's files all have this time, so that the same source gives the same bytes, and the layer is found again.
EPOCH = (2020, 1, 1, 0, 0, 0)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """An image to be built; `base` None: that of `versions.env`. `certificates`: a folder of ``*.crt``."""

    kind: str
    tag: str
    clis: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    base: str | None = None
    certificates: Path | None = None
    uid: int
    gid: int


def known_types() -> tuple[str, ...]:
    """The types that an image can be built for."""
    return tuple(sorted(path.stem for path in (packaged_folder("dockerfiles") / "types").glob("*.sh")))


def pinned() -> dict[str, str]:
    """What `versions.env` says."""
    text = (packaged_folder("dockerfiles") / "versions.env").read_text()
    return dict(re.findall(r"^([A-Z_]+)=(\S+)$", text, re.MULTILINE))


def refuse_unknown(kind: str) -> None:
    """E_IMAGE_TYPE for a type that no image can be built for."""
    if kind not in known_types():
        message = f"There is no image for the type {kind}; there are {', '.join(known_types())}."
        mend = (
            f"Give it one of these in config.yaml (workstations.{kind}.image: cloud-code/backend), and build that."
        )
        raise CloudCodeError("E_IMAGE_TYPE", message, mend)


def build(socket: str, wanted: Wanted) -> None:
    """Build an image by the engine on this socket, its progress on the terminal. E_IMAGE_TYPE, E_IMAGE_BUILD."""
    from python_on_whales import DockerClient
    from python_on_whales.exceptions import DockerException

    refuse_unknown(wanted.kind)
    docker = DockerClient(host=f"unix://{socket}", client_call=["docker"])
    with tempfile.TemporaryDirectory(prefix="cloud-code-image-") as folder:
        write_context(Path(folder), wanted.certificates)
        try:
            if docker.buildx.is_installed():
                docker.buildx.build(folder, build_args=arguments(wanted), tags=wanted.tag, load=True)
            else:
                build_without_buildx(socket, folder, wanted)
        except DockerException as error:
            raise not_built(wanted, (error.stderr or "").strip()[-2000:]) from None


def build_without_buildx(socket: str, folder: str, wanted: Wanted) -> None:
    """By the older builder, which leaves a container of each step that fails unless it is told not to."""
    command = ["docker", "--host", f"unix://{socket}", "build", "--force-rm", "--tag", wanted.tag]
    for name, value in arguments(wanted).items():
        command += ["--build-arg", f"{name}={value}"]
    done = subprocess.run([*command, folder], env={**os.environ, "DOCKER_BUILDKIT": "0"}, check=False)
    if done.returncode != 0:
        raise not_built(wanted)


def not_built(wanted: Wanted, said: str = "") -> CloudCodeError:
    mend = "See above what failed. With certificates of your own network: --certificates FOLDER."
    return CloudCodeError("E_IMAGE_BUILD", f"{wanted.tag} was not built. {said}".strip(), mend)


def arguments(wanted: Wanted) -> dict[str, str]:
    """The build arguments."""
    return {
        "BASE_IMAGE": wanted.base or pinned()[f"BASE_IMAGE_{wanted.kind.upper()}"],
        "TYPE": wanted.kind,
        "CLIS": " ".join(wanted.clis),
        "PACKAGES": " ".join(wanted.packages),
        "AGENT_UID": str(wanted.uid),
        "AGENT_GID": str(wanted.gid),
    }


def write_context(folder: Path, certificates: Path | None) -> None:
    """Everything that a build reads: the recipes, the certificates, the daemon as a wheel."""
    shutil.copytree(packaged_folder("dockerfiles"), folder, dirs_exist_ok=True)
    for certificate in sorted(certificates.glob("*.crt")) if certificates else ():
        shutil.copyfile(certificate, folder / "certificates" / certificate.name)
    (folder / "agent").mkdir()
    write_daemon_wheel(folder / "agent")
    for path in folder.rglob("*"):  # (what the builder's cache goes by, beside the content)
        path.chmod(0o755 if path.is_dir() else 0o644)


def write_daemon_wheel(folder: Path) -> Path:
    """A wheel of the agent daemon alone, as it is here, with its dependencies at the versions of here."""
    name, version = "cloud_code_agent", __version__
    info = f"{name}-{version}.dist-info"
    source = Path(agent_daemon.__file__).parent
    files = {
        f"agent_daemon/{path.relative_to(source)}": path.read_bytes()
        for path in sorted(source.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
    requires = "".join(f"Requires-Dist: {requirement}\n" for requirement in daemon_requirements())
    head = f"Metadata-Version: 2.1\nName: cloud-code-agent\nVersion: {version}\n"
    files[f"{info}/METADATA"] = (head + requires).encode()
    files[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files[f"{info}/entry_points.txt"] = b"[console_scripts]\nagent-daemon = agent_daemon.cli:main\n"
    files[f"{info}/RECORD"] = "".join(_recorded(files, f"{info}/RECORD")).encode()
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for place, content in files.items():
            entry = zipfile.ZipInfo(place, date_time=EPOCH)
            entry.external_attr = 0o644 << 16
            wheel.writestr(entry, content)
    return path


def _recorded(files: Mapping[str, bytes], record: str) -> Iterator[str]:
    for place, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        yield f"{place},sha256={digest},{len(content)}\n"
    yield f"{record},,\n"


def daemon_requirements() -> tuple[str, ...]:
    """What the daemon needs (the distribution's requirements without extras), as ``name==version`` of here."""
    needed: Iterable[str] = metadata.requires(DISTRIBUTION) or ()
    names = [re.match(r"[A-Za-z0-9._-]+", line) for line in needed if "extra ==" not in line]
    return tuple(sorted(f"{name[0]}=={metadata.version(name[0])}" for name in names if name))


def content_digest(folder: Path) -> str:
    """A name for the content of a build context."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(folder)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def own_user() -> tuple[int, int]:
    """Whom the agents are in the images: this user, who is the supervisor."""
    return os.getuid(), os.getgid()
