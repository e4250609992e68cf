"""From nothing to a root that works: `init`, `check`, `doctor`."""

import json
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
import yaml
from pydantic import BaseModel

from agent_daemon.protocol.codec import encode
from agent_daemon.protocol.paths import Root
from supervisor.config import load_config, parse_config
from supervisor.core.settings import Config
from supervisor.packaged import packaged_file
from tests.integration.test_cli_program import forked
from tests.site import Site, make_remote
from tests.unit.conftest import make_task


class TestInit:
    def test_the_new_configuration_is_accepted_and_the_folders_are_there(self, tmp_path: Path) -> None:
        done = forked("init", "R", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        root = Root(tmp_path / "R")
        assert list(load_config(root).projects) == ["my-project"]
        assert root.commands.is_dir() and root.requests.is_dir() and (root.schemas / "task.schema.json").exists()
        checked = forked("--root", str(root.path), "check", cwd=tmp_path)
        assert checked.returncode == 1, "the repository of the example is not there"
        (problem,) = checked.stdout.splitlines()[:-1]
        assert "E_NO_REPOSITORY" in problem and "projects.my-project.repository" in problem

    def test_again_does_no_harm_and_overwrites_nothing(self, tmp_path: Path) -> None:
        forked("init", "R", cwd=tmp_path)
        config, example = tmp_path / "R" / "config.yaml", tmp_path / "R" / "tasks" / "example.yaml.txt"
        config.write_text("projects: {mine: {repository: /x}}\n")
        example.write_text("mine")
        done = forked("init", "R", cwd=tmp_path)
        assert done.returncode == 0 and "left as it is" in done.stdout
        assert config.read_text().startswith("projects: {mine") and example.read_text() == "mine"
        refused = forked("init", "R", "--project", "p", "--repository", "/x", cwd=tmp_path)
        assert refused.returncode == 1 and "E_CONFIG_EXISTS" in refused.stderr

    @pytest.mark.parametrize(
        ("given", "written"),
        [
            ("https://git.example.org/a/b.git", "https://git.example.org/a/b.git"),
            ("git@example.org:a/b", "git@example.org:a/b"),
            ("sub/repo.git", "{here}/sub/repo.git"),
            ("odd: name #1", "{here}/odd: name #1"),
            ('quo"te', '{here}/quo"te'),
        ],
    )
    def test_a_project_can_be_named_at_once(self, tmp_path: Path, given: str, written: str) -> None:
        done = forked("init", "R", "--project", "shop", "--repository", given, "--cli", "codex", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        config = load_config(Root(tmp_path / "R"))
        assert config.projects["shop"].repository == written.format(here=tmp_path)
        assert config.workstations["backend"].clis == ("codex",)

    def test_one_on_a_forge_needs_its_token_and_nothing_else(self, tmp_path: Path) -> None:
        place = ["--forge", "gitlab", "--url", "https://git.example.org"]
        done = forked("init", "R", "--project", "shop", "--repository", "acme/web/shop", *place, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        shop = load_config(Root(tmp_path / "R")).projects["shop"]
        assert (shop.forge, shop.repository, shop.web_address) == (
            "gitlab",
            "acme/web/shop",
            "https://git.example.org",
        )
        assert shop.auth is not None and f"secret set {shop.auth.token.secret} " in done.stdout  # type: ignore[union-attr]

    def test_the_name_of_a_repository_on_a_forge_is_no_path(self, tmp_path: Path) -> None:
        done = forked("init", "R", "--project", "shop", "--repository", "acme/shop", cwd=tmp_path)
        assert done.returncode == 1 and "E_NO_REPOSITORY" in done.stderr and "--forge github" in done.stderr
        for wrong in (["--forge", "github"], ["--project", "p", "--repository", "a/b", "--url", "https://x.org"]):
            assert forked("init", "R", *wrong, cwd=tmp_path).returncode == 2
        address = ["--repository", "https://github.com/acme/shop", "--forge", "github"]
        assert "owner/name" in forked("init", "R", "--project", "shop", *address, cwd=tmp_path).stderr
        assert not (tmp_path / "R").exists()

    def test_mistakes_are_told_before_anything_is_made(self, tmp_path: Path) -> None:
        assert forked("init", "R", "--project", "shop", cwd=tmp_path).returncode == 2
        assert forked("init", "R", "--cli", "unheard-of", cwd=tmp_path).returncode == 2
        done = forked("init", "R", "--project", "My Shop", "--repository", "/x", cwd=tmp_path)
        assert done.returncode == 1 and "E_PROJECT_NAME" in done.stderr
        assert not (tmp_path / "R").exists()
        (tmp_path / "file").touch()
        done = forked("init", "file/R", cwd=tmp_path)
        assert done.returncode == 1 and "Traceback" not in done.stderr

    def test_the_example_configuration_shows_every_key_that_there_is(self) -> None:
        text = packaged_file("config.yaml").read_text()
        parse_config(text.encode(), file="config.yaml")
        missing = [name for name in sorted(set(keys_of(Config))) if f"{name}:" not in text]
        assert not missing

    def test_the_commented_out_parts_of_the_example_are_valid_too(self) -> None:
        lines = []
        for line in packaged_file("config.yaml").read_text().splitlines():
            body = line.lstrip().removeprefix("#")
            looks_like_yaml = body.startswith(" ") and (":" in body.split("#")[0] or body.strip().startswith("- "))
            prose = body[1:2].isupper() or "language-server" in body
            commented = line.lstrip().startswith("# ") and looks_like_yaml and not prose
            lines.append(line.replace("# ", "", 1) if commented and not body.startswith(" ---") else line)
        lines = [line.replace("driver: local ", "driver: docker") for line in lines]  # which some of them are for
        config = parse_config("\n".join(lines).encode(), file="config.yaml")
        assert config.clis["my-agent"].argv and config.projects["my-project"].limits.max_turns == 60
        assert config.routing and config.retry.cap_seconds == 900

    def test_the_example_task_is_a_task(self, tmp_path: Path) -> None:
        forked("init", "R", cwd=tmp_path)
        example = tmp_path / "R" / "tasks" / "example.yaml.txt"
        (tmp_path / "R" / "tasks" / "example.yaml").write_text(example.read_text())
        done = forked("--root", str(tmp_path / "R"), "check", "tasks", cwd=tmp_path)
        assert done.returncode == 0, done.stdout


def keys_of(model: type[BaseModel]) -> list[str]:
    """Every key that a model and the models in it know."""
    found: list[str] = []

    def walk(annotation: Any) -> None:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            for name, field in annotation.model_fields.items():
                found.append(name)
                walk(field.annotation)
        elif get_origin(annotation) is not None:
            for inner in get_args(annotation):
                walk(inner)

    walk(model)
    return [name for name in found if name not in ("type",)]  # of a verification command: only one value yet


class TestCheck:
    @pytest.fixture
    def ready(self, site: Site) -> Site:
        site.write_config()
        return site

    def test_each_problem_is_told_with_its_line_and_what_to_do(self, ready: Site) -> None:
        (ready.root.tasks / "typo.yaml").write_text("title: A\nlables: [x]\n")
        (ready.root.tasks / "cut.yaml").write_text("title: [\n")
        (ready.root.tasks / "other.yaml").write_text("title: A\nproject: nope\n")
        (ready.root.tasks / "pr7.yaml").write_text("title: A\n")
        done = ready.cli("check", check=False)
        assert done.returncode == 1
        assert "tasks/typo.yaml:2: E_UNKNOWN_KEY" in done.stdout and "did you mean `labels`?" in done.stdout
        assert "tasks/cut.yaml:" in done.stdout and "E_UNKNOWN_PROJECT" in done.stdout
        found = json.loads(ready.cli("check", "--json", check=False).stdout)
        assert not found["ok"] and len(found["checked"]) == 5
        assert {p["file"].rpartition("/")[2] for p in found["problems"]} >= {"typo.yaml", "cut.yaml", "other.yaml"}
        typo = next(p for p in found["problems"] if p["code"] == "E_UNKNOWN_KEY")
        assert (typo["line"], typo["place"]) == (2, "lables")

    def test_a_configuration_is_held_against_its_references(self, ready: Site) -> None:
        ready.config["workstations"]["backend"]["clis"] = ["nothing"]
        ready.write_config()
        done = ready.cli("check", "config", check=False)
        assert (
            done.returncode == 1 and "E_REFERENCE" in done.stdout and "workstations.backend.clis[0]" in done.stdout
        )
        assert ready.cli("check", "tasks", check=False).returncode == 1

    def test_tasks_that_wait_for_each_other_are_one_problem(self, ready: Site) -> None:
        ready.write_task("a", depends_on=["b"])
        ready.write_task("b", depends_on=["a"])
        ready.write_task("c", depends_on=["a"])
        done = ready.cli("check", "tasks", check=False)
        assert done.returncode == 1 and done.stdout.count("E_DEPENDENCY_CYCLE") == 1

    def test_any_file_is_known_by_its_name_its_place_or_its_keys(self, ready: Site, tmp_path: Path) -> None:
        reporting = "version: 1\nrevision: 2\ntasks: {demo.a: {attempt: 1, status: planning}}\nend: 2\n"
        files = {
            "reporting.yaml": reporting,
            "copy-of-a-report.yaml": reporting,
            "my-config.yaml": yaml.safe_dump(ready.config),
            "record.yaml": encode(make_task()).decode(),
            "workstation.yaml": "version: 1\nrevision: 1\nagent_id: a\nagent_type: b\nend: 1\n",
            "some-task.yaml": "title: A task\n",
            "feedback.yaml": "version: 1\nrevision: 1\nitems: []\n",
        }
        for name, content in files.items():
            (tmp_path / name).write_text(content)
            done = ready.cli("check", str(tmp_path / name), check=False)
            assert done.returncode == 0, f"{name}: {done.stdout}{done.stderr}"
        (tmp_path / "reporting.yaml").write_text(reporting.replace("end: 2\n", ""))
        done = ready.cli("check", str(tmp_path / "reporting.yaml"), check=False)
        assert done.returncode == 1 and "E_UNFINISHED" in done.stdout

    def test_what_is_not_there_is_a_mistake(self, ready: Site) -> None:
        done = ready.cli("check", "nothing.yaml", check=False)
        assert done.returncode == 1 and "E_NO_FILE" in done.stderr


class TestDoctor:
    def test_a_working_root_lacks_nothing(self, site: Site) -> None:
        site.write_config()
        done = site.cli("doctor", "--json", check=False)
        checks = {(check["name"], check["status"]) for check in json.loads(done.stdout)}
        for name in ("git", "config", "backend: scripted", "project demo", "root", "supervisor"):
            assert any(found == name and status != "error" for found, status in checks), name
        assert ("workstation backend", "warning") in checks
        errors = [name for name, status in checks if status == "error"]
        assert done.returncode == (1 if errors else 0)
        assert set(errors) <= {"disk"}

    def test_each_lack_is_told_with_what_mends_it(self, site: Site, tmp_path: Path) -> None:
        site.config["projects"]["gone"] = {"repository": str(tmp_path / "gone.git")}
        site.config["projects"]["wrong"] = {"repository": str(site.remote), "base_branch": "nope"}
        site.config["clis"]["scripted"]["argv"] = ["no-such-program"]
        site.write_config()
        done = site.cli("doctor", "--json", check=False)
        assert done.returncode == 1
        lacks = {c["name"]: c for c in json.loads(done.stdout) if c["status"] == "error"}
        assert {"project gone", "project wrong", "backend: scripted"} <= set(lacks)
        assert all(lack["mend"] for lack in lacks.values())
        shown = site.cli("doctor", check=False).stdout
        assert "E_NO_BRANCH" in shown and "→" in shown

    def test_without_a_root_it_says_how_to_make_one(self, tmp_path: Path) -> None:
        done = forked("--root", str(tmp_path / "R"), "doctor", cwd=tmp_path)
        assert done.returncode == 1 and f"cloud-code init {tmp_path}/R" in done.stdout

    def test_a_root_that_cannot_be_written_is_told(self, tmp_path: Path) -> None:
        """In /proc nobody may make a file, not even root."""
        assert "cannot be written" in forked("--root", "/proc/self", "doctor", cwd=tmp_path).stdout


def test_a_repository_path_is_relative_to_where_the_person_stands(tmp_path: Path) -> None:
    make_remote(tmp_path / "here" / "shop.git", {"a": "a\n"})
    done = forked("init", "../R", "--project", "shop", "--repository", "shop.git", cwd=tmp_path / "here")
    assert done.returncode == 0, done.stderr
    found = json.loads(forked("--root", str(tmp_path / "R"), "doctor", "--json", cwd=tmp_path).stdout)
    assert next(c for c in found if c["name"] == "project shop")["status"] == "ok"
