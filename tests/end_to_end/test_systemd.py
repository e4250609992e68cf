"""Cloud Code as a service on a host that systemd has started: what an administrator does there."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
import yaml

from agent_daemon.protocol.codec import encode
from supervisor.core.states import State
from tests.docker_engine import control_groups
from tests.site import wait_for
from tests.systemd_host import SystemdHost, image
from tests.unit.conftest import make_attempt, make_task

# The image may have to be built first, or is just being built for another test.
pytestmark = pytest.mark.timeout(900)

CONFIG = {
    "projects": {"demo": {"repository": "/srv/demo.git", "base_branch": "main"}},
    "workstations": {"backend": {"driver": "docker", "count": 1, "clis": ["scripted"]}},
    "clis": {"scripted": {"adapter": "command", "argv": ["true"]}},
}
# As a member of the group, who may give commands and read, and nothing more.
MEMBER = "sudo -u ada cloud-code"


@pytest.fixture(scope="module")
def host() -> Iterator[SystemdHost]:
    """Installed; the parts of one story follow, in which each test needs those before."""
    image()  # before others are kept waiting
    with control_groups(changed=True):
        booted = SystemdHost()
        try:
            booted.install_package()
            yield booted
        finally:
            booted.close()


def state(host: SystemdHost) -> dict[str, str]:
    said = host.sh("systemctl show cloud-code -p ActiveState,MainPID,NRestarts,StatusText,UnitFileState")
    return dict(line.partition("=")[::2] for line in said.splitlines())


def proxy_of(host: SystemdHost) -> str:
    return host.sh("systemctl show -P MainPID cloud-code-egress").strip()


def log(host: SystemdHost) -> str:
    return host.sh("journalctl -u cloud-code -o cat")


def configure(host: SystemdHost, workstations: int) -> None:
    wanted = json.loads(json.dumps(CONFIG))
    wanted["workstations"]["backend"]["count"] = workstations
    host.sh(f"cat > /srv/cloud-code/config.yaml <<'EOF'\n{yaml.safe_dump(wanted)}\nEOF\n")


def test_an_administrator_installs_runs_upgrades_and_removes_it(host: SystemdHost) -> None:
    program = "/opt/cloud-code/bin/cloud-code"
    done = host.sh(f"{program} install && useradd ada -G cloud-code && git init -q --bare /srv/demo.git")
    assert "done      /srv/cloud-code/config.yaml" in done and "Next:" in done
    again = host.sh(f"{program} install")
    assert "done" not in again and "is so     /etc/systemd/system/cloud-code.service" in again
    assert host.sh("stat -c '%U %a' /srv/cloud-code /etc/cloud-code/environment").split() == [
        *("cloud-code", "750"),
        *("root", "600"),
    ]

    would = host.sh(f"{program} install --userns-remap --dry-run")
    assert "→ systemctl restart docker" in would and "now?" not in would, "nothing is asked before a look"

    configure(host, 1)
    host.sh("systemctl start cloud-code")
    begun, proxy = state(host), proxy_of(host)
    hidden = f"test -e /run/systemd/private && test ! -e /proc/{proxy}/root/run/systemd/private && echo so"
    assert proxy != "0" and host.sh(hidden).strip() == "so", "the proxy runs, and sees nothing of /run"
    sees_nothing_else_of_the_root(host, proxy)
    assert (begun["ActiveState"], begun["UnitFileState"]) == ("active", "enabled")
    wait_for(lambda: "Docker engine does not answer; 0 tasks under way" in state(host)["StatusText"])
    assert host.sh("systemd-analyze verify /etc/systemd/system/cloud-code*.service") == ""
    score = host.sh("systemd-analyze security --no-pager cloud-code | tail -n 1")
    assert float(score.rpartition(": ")[2].split()[0]) <= 2.0
    lines = [json.loads(line) for line in host.sh("journalctl -u cloud-code -o json").splitlines()]
    told = {
        json.loads(line["MESSAGE"])["message"]: line["PRIORITY"] for line in lines if line["MESSAGE"][0] == "{"
    }
    assert any("supervisor.started" in message for message in told)
    assert next(told[message] for message in told if message.startswith("engine.away")) == "4"

    goes_on_with_another_configuration(host, begun["MainPID"])
    is_started_anew_where_it_hangs(host)
    is_upgraded(host, program)
    says_that_a_version_does_not_start(host)
    assert proxy_of(host) == proxy, "nothing of all that touched it"
    has_its_proxy_upgraded(host, proxy)
    is_removed(host, program)


def sees_nothing_else_of_the_root(host: SystemdHost, proxy: str) -> None:
    """Whatever was made since it was started; and it works: a policy has a socket made, also for who looks on."""
    place, made = f"/proc/{proxy}/root/srv/cloud-code", "/srv/cloud-code/run/egress/backend-1/proxy"
    host.sh("cd /srv/cloud-code && touch secrets.age && mkdir -p mail")
    assert host.sh(f"cd {place} && find . -maxdepth 2 -not -name . | sort").split() == [
        *("./run", "./run/egress", "./state", "./state/egress")
    ]
    policy = "/srv/cloud-code/state/egress/backend-1.yaml"
    host.sh(f"echo 'version: 1' > {policy} && chown cloud-code: {policy}")
    wait_for(lambda: host.asked("ls", made) == made, what="its socket")
    host.sh(f"rm {policy}; cd /srv/cloud-code && rm secrets.age")


def goes_on_with_another_configuration(host: SystemdHost, pid: str) -> None:
    configure(host, 2)
    host.sh("systemctl reload cloud-code")
    wait_for(lambda: "backend.count: 1 \\u2192 2" in log(host))
    host.sh("echo 'projects: [' > /srv/cloud-code/config.yaml; systemctl reload cloud-code")
    wait_for(lambda: "the former one stays in force" in log(host))
    assert state(host)["MainPID"] == pid
    assert "E_CONFIG" in host.sh("! cloud-code upgrade"), "what this version cannot use is no reason to stop"
    assert state(host)["MainPID"] == pid


def is_started_anew_where_it_hangs(host: SystemdHost) -> None:
    folder = "/etc/systemd/system/cloud-code.service.d"
    host.sh(
        f"mkdir {folder}; printf '[Service]\\nWatchdogSec=10\\n' > {folder}/mine.conf; systemctl daemon-reload"
    )
    configure(host, 2)
    host.sh("systemctl restart cloud-code")
    before = state(host)
    configuration = "/srv/cloud-code/config.yaml"
    host.sh(
        f"cp -p {configuration} /root/c; mkfifo /srv/cloud-code/f; chown cloud-code: /srv/cloud-code/f; "
        f"mv /srv/cloud-code/f {configuration}; kill -HUP {before['MainPID']}"
    )
    wait_for(lambda: state(host)["ActiveState"] == "reloading", what="the loop waits in the fifo")
    host.sh(f"rm {configuration}; cp -p /root/c {configuration}")
    wait_for(lambda: state(host)["NRestarts"] != "0" and state(host)["ActiveState"] == "active")
    assert state(host)["MainPID"] != before["MainPID"]
    assert "in load_config" in log(host), "the log says where it hung"


def is_upgraded(host: SystemdHost, program: str) -> None:
    assert "no attempt is given out" in host.sh(f"{MEMBER} drain")
    before = state(host)["MainPID"]
    unit = "/etc/systemd/system/cloud-code.service"
    old = host.sh(f"sed -i '1s/cloud-code [^,]*/cloud-code 0.0.9/' {unit}; cloud-code doctor", check=False)
    assert "the unit is of version 0.0.9" in old and "sudo cloud-code upgrade" in old
    assert "and is not" not in old and "changed, and systemd has not read it" in old
    done = host.sh("cloud-code upgrade")
    assert f"done      {unit}" in done and "done      the supervisor runs in this version" in done
    assert "no workstation ran" in done
    assert state(host)["MainPID"] != before
    assert "drained" in wait_for(lambda: state(host)["StatusText"]), "it stays so"
    assert "WatchdogSec=10" in host.sh("systemctl cat cloud-code"), "a person's drop-in stays"


def says_that_a_version_does_not_start(host: SystemdHost) -> None:
    package = "$(echo /opt/cloud-code/lib/python3*/site-packages/supervisor)"
    host.sh(f"mv {package}/loop.py /root/; rm -rf {package}/__pycache__")
    said = host.sh("! cloud-code upgrade")
    assert "E_UPGRADE" in said and "No module named 'supervisor.loop'" in said and "Going back" in said
    host.sh(f"mv /root/loop.py {package}/; cloud-code upgrade")
    wait_for(lambda: state(host)["ActiveState"] == "active", what="it runs again in the version of before")


def has_its_proxy_upgraded(host: SystemdHost, proxy: str) -> None:
    source = "$(find /opt/cloud-code/lib -path '*/supervisor/egress/dial.py')"
    host.sh(f"echo '# another version' >> {source}")
    assert "runs in another program" in host.sh("cloud-code doctor", check=False)
    assert "would be  the egress proxy" in host.sh("cloud-code upgrade --dry-run")
    assert proxy_of(host) == proxy
    host.sh("systemctl stop cloud-code")
    attempt = make_attempt(started_at=datetime.now(UTC))
    record = make_task(id="demo.one", project="demo", state=State.IN_PROGRESS, attempt=1, attempts=(attempt,))
    place = "/srv/cloud-code/state/tasks/demo.one.yaml"
    host.sh(f"cat > {place} <<'EOF'\n{encode(record).decode()}\nEOF\nchown cloud-code: {place}")
    kept = host.sh("cloud-code upgrade")
    assert "kept      the egress proxy" in kept and "the connections of demo.one" in kept, kept
    assert proxy_of(host) == proxy
    host.sh(f"rm {place}; systemctl start cloud-code")
    done = host.sh("mkdir -p /root/x/supervisor; cd /root/x; cloud-code upgrade")
    assert "done      the egress proxy runs as this version's program" in done, done
    assert proxy_of(host) not in (proxy, "0")
    assert "is so     the egress proxy" in host.sh("cloud-code upgrade")


def is_removed(host: SystemdHost, program: str) -> None:
    assert "E_NEEDS_ROOT" in host.sh(f"! {MEMBER} uninstall")
    done = host.sh("cloud-code uninstall")
    assert "done      the service is stopped" in done and "are kept" in done
    assert state(host)["ActiveState"] == "inactive"
    host.sh("! ls /etc/systemd/system/cloud-code*.service; test -e /srv/cloud-code/config.yaml")
    gone = host.sh(f"echo /srv/cloud-code | {program} uninstall --purge")
    assert "done      the user cloud-code goes" in gone
    host.sh("! test -e /srv/cloud-code && ! test -e /etc/cloud-code && ! id cloud-code")
