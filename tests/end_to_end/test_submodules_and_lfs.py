"""A project with a submodule and files of git-lfs, from the task to the request."""

from tests.site import Site, git, make_remote, wait_for

POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'a' * 64}\nsize 12345\n"


def prepare(site: Site) -> None:
    library = make_remote(site.folder / "library.git", {"lib.py": "X = 1\n"})
    person = site.folder / "person"
    git("clone", "-q", str(site.remote), str(person), cwd=site.folder)
    git("-c", "protocol.file.allow=always", "submodule", "-q", "add", f"file://{library}", "lib", cwd=person)
    (person / ".gitattributes").write_text("*.bin filter=lfs -text\n")
    (person / "logo.bin").write_text(POINTER)
    git("add", "--all", cwd=person)
    git("commit", "-qm", "A submodule, and a file of git-lfs", cwd=person)
    git("push", "-q", "origin", "main", cwd=person)


def explained(site: Site, task: str) -> str:
    return " ".join(site.cli("task", "explain", task).stdout.split())


def test_both_are_told_and_left_alone(site: Site) -> None:
    prepare(site)
    site.use_script(
        f"cat > {site.folder}/prompt.md",
        f"ls -A lib > {site.folder}/lib.txt; cp logo.bin {site.folder}/logo.bin",
        f"echo $GIT_LFS_SKIP_SMUDGE > {site.folder}/skip.txt",
        "rmdir lib; sed -i 's/a - b/a + b/' calc.py",
    )
    site.write_config()
    site.start()
    site.write_task("fix-add")
    task = site.wait_state("demo.fix-add", "review", "blocked", "failed")
    assert task.state == "review" and task.delivery is not None
    assert [file.path for file in task.delivery.files] == ["calc.py"]
    assert (site.folder / "lib.txt").read_text() == ""
    assert (site.folder / "logo.bin").read_text() == POINTER
    assert (site.folder / "skip.txt").read_text() == "1\n"
    prompt = (site.folder / "prompt.md").read_text()
    assert "Submodules are not there" in prompt and "kept by git-lfs are pointers" in prompt
    assert "Submodules are not checked out: lib." in explained(site, "fix-add")
    assert "new content of theirs is refused: logo.bin" in explained(site, "fix-add")


def test_new_content_of_git_lfs_is_refused_and_the_next_attempt_told(site: Site) -> None:
    prepare(site)
    site.use_script(
        f"cat > {site.folder}/prompt.md",
        "sed -i 's/a - b/a + b/' calc.py",
        f"if grep -q E_LFS_FILE {site.folder}/prompt.md; then git checkout -q HEAD -- logo.bin;",
        "  else echo bytes > logo.bin; fi",
    )
    site.write_config()
    site.start()
    site.write_task("fix-add")
    task = site.wait_state("demo.fix-add", "review", "blocked")
    assert task.state == "review" and task.attempt == 2
    (refused,) = site.events("claim.refused")
    assert refused["details"]["codes"] == ["E_LFS_FILE"]
    assert git("show", f"{task.branch}:logo.bin", cwd=site.remote) == POINTER.rstrip()


def test_a_moved_submodule_waits_for_a_person_and_work_inside_is_told(site: Site) -> None:
    prepare(site)
    site.use_script(
        "cat > /dev/null",
        "git -c protocol.file.allow=always submodule -q update --init",
        "cd lib; echo 'X = 2' > lib.py; git commit -qam 'Inside'; cd ..; git add lib; git commit -qm 'Move lib'",
        "echo loose > lib/loose.py",
    )
    site.write_config()
    site.start()
    site.write_task("lib")
    blocked = site.wait_state("demo.lib", "blocked", "review")
    assert blocked.waits_for[0].reason == "approval" and "lib" in blocked.waits_for[0].message
    assert "inside of submodules is not handed in: lib" in explained(site, "lib")
    report = site.root.attempt_out("backend-1", "demo.lib", 1) / "reporting.yaml"
    wait_for(lambda: "submodules_changed" in report.read_text())
