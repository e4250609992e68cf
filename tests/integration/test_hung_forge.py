"""A forge that lets everybody wait holds up no other, and no work: the real supervisor's loop, stepped by hand."""

import time
from pathlib import Path

from supervisor.app import Supervisor
from tests.desk import Desk
from tests.forge_site import BOT, PROJECT, REPO, forge_site
from tests.site import wait_for

PROJECTS, HANGS_SECONDS = 24, 20


def test_a_forge_that_hangs_holds_up_neither_another_one_nor_the_work(tmp_path: Path) -> None:
    with forge_site(tmp_path) as forges:
        site, hub, lab = forges.site, forges.hub, forges.lab
        repositories = [f"acme/app-{number}" for number in range(PROJECTS)]
        for repository in repositories:
            hub.add_repository(repository, hub.repositories[REPO])
            hub.add_person(BOT, permissions={repository: "write"})
            hub.add_person("ada", permissions={repository: "write"})
            hub.open_issue(repository, "ada", "Fix it", labels=["cloud-code"])
            name = repository.partition("/")[2]
            site.config["projects"][name] = site.config["projects"]["hub"] | {"repository": repository}
        desk = Desk(site)

        def poll_all(supervisor: Supervisor) -> None:
            for repository in repositories:
                supervisor.inbox.put(("poll", repository.partition("/")[2]))

        supervisor = desk.start()
        try:
            hub.fail(method="POST", times=1000, delay_seconds=HANGS_SECONDS)
            poll_all(supervisor)
            wait_for(lambda: (desk.look(), len(site.store.load().tasks) == PROJECTS)[1], what="tasks to tell of")
            hub.fail(times=1000, delay_seconds=HANGS_SECONDS)
            poll_all(supervisor)
            desk.look()
            issue = lab.open_issue(PROJECT, "ada", "Fix it", labels=["cloud-code"])
            started = time.monotonic()
            supervisor.inbox.put(("poll", "lab"))
            desk.see(f"lab.{issue}")
            wait_for(lambda: (desk.look(), forges.noted(issue))[1], what="its story")
            assert supervisor.pool.submit("Work:other", lambda: None)
            wait_for(lambda: (desk.look(), not supervisor.pool.under_way("Work:other"))[1], what="other work")
            assert time.monotonic() - started < HANGS_SECONDS
        finally:
            desk.close()
