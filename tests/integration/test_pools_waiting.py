"""A pool that grew for a task which was taken back before anybody could begin it."""

from tests.desk import Desk
from tests.site import Site, wait_for


def test_it_shrinks_again(site: Site) -> None:
    pool = {"driver": "local", "clis": ["scripted"], "min": 0, "max": 1, "idle_minutes": 0.01}
    site.config["workstations"]["backend"] = pool
    desk = Desk(site)
    fleet = desk.start().fleet
    fleet.want("backend-1", "removed")
    site.write_task("one")

    def happened(event: str) -> bool:
        desk.look()
        return bool(site.events(event))

    wait_for(lambda: happened("pool.grown"))
    desk.command("cancel", "demo.one")
    wait_for(lambda: happened("pool.shrunk"), what="nobody waits any more")
    desk.close()
