"""What is done to an idle workstation of the driver `local`: its caches, and a plain word about the rest."""

from tests.site import Site, wait_for


def test_its_caches_are_trimmed_and_what_makes_no_sense_is_refused(site: Site) -> None:
    site.config["maintenance"] = {"cache_bytes": 1000, "schedule": None}
    site.write_config()
    cache = site.root.workspace("backend-1") / ".homes/scripted/.cache/pip"
    cache.mkdir(parents=True)
    (cache / "wheel").write_bytes(b"x" * 9000)
    site.start()
    wait_for(site.daemons)
    refused = site.cli("workstation", "snapshot", "backend-1", check=False)
    assert refused.returncode == 1 and "nothing of its own to save" in refused.stderr
    said = site.cli("workstation", "maintain", "backend-1").stdout
    assert "its caches took 8.8 KiB, now 0 B" in said, said
    assert not cache.exists() and cache.parent.is_dir()
    wait_for(site.daemons, what="it is there again")
    assert not site.events("workstation.died")
