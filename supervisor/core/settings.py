"""The configuration as frozen models: what `config.yaml` may say, with its defaults. Loading is in `config.py`."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, field_validator, model_validator

from agent_daemon.protocol.model import (
    Amount,
    Limits,
    Price,
    RebaseWhen,
    VerificationCommand,
    WorkspaceMode,
    Written,
)
from supervisor.core.addresses import network
from supervisor.core.egress import word
from supervisor.core.egress_sets import USUAL
from supervisor.core.secret_settings import (
    SHORT,
    CredentialSettings,
    Name,
    SecretSource,
    SecretsSettings,
    Variable,
    Word,
    why_not_variable,
)

Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
ConflictInReview = Literal["report", "attempt"]
EgressWord = Annotated[str, SHORT, AfterValidator(word)]
EgressNetwork = Annotated[str, SHORT, AfterValidator(network)]

# Drivers that can give an isolated task a workstation of its own. `local` cannot: its workstations are processes
# of one user, and a clone of its own is all that such a task gets.
ISOLATING_DRIVERS: frozenset[str] = frozenset()


class ProjectLimits(Written):
    """Defaults for the attempts of this project's tasks; a task may set its own."""

    timeout_minutes: Annotated[float, Field(gt=0, le=10_080, allow_inf_nan=False)] = 30
    cost_usd: Amount | None = None
    max_turns: Annotated[int, Field(ge=1)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_identical_actions: Annotated[int, Field(ge=2)] | None = 30
    max_failures: Annotated[int, Field(ge=1, le=100)] = 3

    def for_task(self) -> Limits:
        return Limits(**self.model_dump(exclude={"max_failures"}))


class Bot(Written):
    """Who the pushed commits are by."""

    name: Annotated[str, StringConstraints(pattern=r"^[^<>\x00-\x20][^<>\x00-\x1f]{0,200}$")] = "Cloud Code"
    email: Annotated[str, StringConstraints(pattern=r"^[^<>\s\x00-\x1f]{1,200}$")] = "cloud-code@localhost"


class TriggerSettings(Written):
    """What on a forge starts a task: one of these labels, or assignment to this account. Ignored labels win."""

    labels: tuple[Annotated[str, SHORT], ...] = ("cloud-code",)
    assignee: Annotated[str, SHORT] | None = None
    ignore_labels: tuple[Annotated[str, SHORT], ...] = ("wontfix", "human-only")
    bots: tuple[Annotated[str, SHORT], ...] = ()


class AppSettings(Written):
    """A GitHub App that is installed on the repository; `id` is its number or client id."""

    id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9.]{1,60}$")]
    private_key: SecretSource


class AuthSettings(Written):
    """How the supervisor signs in to a forge. `login` is its account there; without it the forge is asked.

    `push`: what git pushes with; `project_token` has GitLab make a short-lived one that can do nothing else.
    """

    token: SecretSource | None = None
    app: AppSettings | None = None
    login: Annotated[str, SHORT] | None = None
    push: Literal["token", "project_token"] = "token"

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.token is None) == (self.app is None):
            raise ValueError("name one way to sign in: `token:` or `app:`")
        return self


class RequestSettings(Written):
    """How pull and merge requests are opened. `draft`: as a draft, until the verification is known to have passed.

    `fix_rounds` bounds the attempts that are made because checks of the request's head failed.
    """

    draft: bool = True
    reviewers: tuple[Annotated[str, SHORT], ...] = ()
    labels: tuple[Annotated[str, SHORT], ...] = ()
    delete_branch: bool = False
    fix_rounds: Annotated[int, Field(ge=0, le=20)] = 2


class WebhookSettings(Written):
    """A project's webhook: `secret` signs its deliveries (GitHub) or is their token (GitLab)."""

    secret: SecretSource


# The name that each forge wants beside a token over git's https.
GIT_USERS = {"github": "x-access-token", "gitlab": "oauth2"}
PUBLIC_FORGES = {"github": "https://github.com", "gitlab": "https://gitlab.com"}


class ProjectSettings(Written):
    """One repository and how its tasks are done. `url` is that of a self-hosted forge."""

    forge: Literal["local", "github", "gitlab"] = "local"
    repository: Annotated[str, SHORT]
    url: Annotated[str, SHORT] | None = None
    auth: AuthSettings | None = None
    trigger: TriggerSettings = TriggerSettings()
    request: RequestSettings = RequestSettings()
    webhook: WebhookSettings | None = None
    base_branch: Annotated[str, SHORT] | None = None
    trust_domain: Name = "default"
    protected_paths: tuple[Annotated[str, SHORT], ...] = ()
    verification: tuple[VerificationCommand, ...] = ()
    limits: ProjectLimits = ProjectLimits()
    workspace_mode: WorkspaceMode | None = None
    unstuck: Name | None = None
    rebase: RebaseWhen = "before_result"
    conflict_in_review: ConflictInReview = "report"
    plan_approval: bool = False
    bot: Bot = Bot()
    prompt_folder: str | None = None
    poll_interval_seconds: Annotated[float, Field(ge=0.2, allow_inf_nan=False)] | None = None

    @property
    def web_address(self) -> str:
        """Where the forge's pages and repositories are; empty where the project is on none."""
        return (self.url or PUBLIC_FORGES.get(self.forge, "")).rstrip("/")

    @property
    def poll_seconds(self) -> float:
        """How often the remote, or the forge, is asked what is new."""
        return self.poll_interval_seconds or (5.0 if self.forge == "local" else 30.0)

    @property
    def account(self) -> str:
        """Where its supervisor signs in, and how: a forge counts together what comes from one account."""
        return f"{self.web_address} {self.auth}"

    @field_validator("verification", mode="after")
    @classmethod
    def _unique_names(cls, value: tuple[VerificationCommand, ...]) -> tuple[VerificationCommand, ...]:
        names = [command.name for command in value]
        if len(set(names)) != len(names):
            raise ValueError("two verification commands have the same name; give each its own")
        return value


class ContainerLimits(Written):
    """What a workstation's container may use: memory as Docker writes it (no swap beside it), processors, and
    processes with their threads."""

    memory: str
    cpus: float
    pids: int


# By type; others get those of `backend`. An idle Node process has 7 threads, and each counts.
CONTAINER_LIMITS = {
    "frontend": ContainerLimits(memory="2g", cpus=2, pids=512),
    "backend": ContainerLimits(memory="2g", cpus=2, pids=512),
    "database": ContainerLimits(memory="1g", cpus=1, pids=256),
    "devops": ContainerLimits(memory="2g", cpus=2, pids=512),
    "reviewer": ContainerLimits(memory="1g", cpus=1, pids=256),
    "testing": ContainerLimits(memory="4g", cpus=2, pids=512),
    "planner": ContainerLimits(memory="512m", cpus=1, pids=256),
}


# A package of Debian (Debian Policy 5.6.1), and its version if it matters (5.6.12).
PACKAGE = r"[a-z0-9][a-z0-9+.-]*[a-z0-9+](=[A-Za-z0-9.+:~-]+)?"
Package = Annotated[str, StringConstraints(pattern=rf"^{PACKAGE}$", max_length=200)]


class WorkstationSettings(Written):
    """A pool of specialists of one type: a fixed `count`, or between `min` and `max` as they are needed.

    `clis` is the chain: the next one takes over where one gets nowhere. `unstuck` has one try after the last.
    What stands under `_DOCKER_ONLY` is for containers alone.
    """

    driver: Literal["local", "docker"] = "local"
    count: Annotated[int, Field(ge=1, le=200)] | None = None
    min: Annotated[int, Field(ge=0, le=200)] | None = None
    max: Annotated[int, Field(ge=1, le=200)] | None = None
    idle_minutes: Annotated[float, Field(gt=0, le=10_080, allow_inf_nan=False)] = 15
    clis: Annotated[tuple[Name, ...], Field(min_length=1)]
    unstuck: Name | None = None
    trust_domain: Name = "default"
    workspace_mode: WorkspaceMode | None = None
    disk_limit: Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,11}[kmgt]$")] | None = None
    environment: dict[str, str] = Field(default_factory=dict)
    image: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][A-Za-z0-9._/:@-]{0,250}$")] | None = None
    memory: Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,11}[kmg]$")] | None = None
    cpus: Annotated[float, Field(gt=0, le=1024, allow_inf_nan=False)] | None = None
    pids: Annotated[int, Field(ge=16, le=4_194_304)] | None = None
    network: Literal["allow", "open", "none"] | None = None
    egress: tuple[EgressWord, ...] | None = None
    egress_networks: tuple[EgressNetwork, ...] | None = None
    recreate: Literal["never", "per_task", "weekly"] | None = None
    preset: Literal["hardened", "free"] | None = None
    packages: tuple[Package, ...] | None = None

    @property
    def is_free(self) -> bool:
        """Whether its agents may become root in their container (`sudo`), on an engine that remaps users."""
        return self.preset == "free"

    @property
    def is_pool(self) -> bool:
        """Whether there are more while tasks wait, and fewer when some are idle."""
        return self.max is not None

    @property
    def least(self) -> int:
        return (self.count or 1) if self.max is None else 1 if self.min is None else self.min

    @property
    def most(self) -> int:
        return self.max if self.max is not None else self.least

    @property
    def disk_limit_bytes(self) -> int | None:
        """What a workstation may take of the disk."""
        if self.disk_limit is None:
            return None
        return int(self.disk_limit[:-1]) << 10 * ("kmgt".index(self.disk_limit[-1]) + 1)

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if self.min is not None and self.max is None:
            raise ValueError("`min` is for a pool that has a `max`, too; a fixed number is a `count`")
        if self.max is not None and self.count is not None:
            raise ValueError("say how many: either `count`, or `min` and `max`")
        if self.least > self.most:
            raise ValueError(f"`min` ({self.least}) is more than `max` ({self.most})")
        return self

    @model_validator(mode="after")
    def _for_containers(self) -> Self:
        given = [name for name in _DOCKER_ONLY if getattr(self, name) is not None]
        if given and self.driver != "docker":
            raise ValueError(f"`{given[0]}` is for `driver: docker`: the driver `{self.driver}` has no containers")
        listed = [name for name in ("egress", "egress_networks") if getattr(self, name) is not None]
        if listed and self.network in ("open", "none"):
            raise ValueError(
                f"`{listed[0]}` is for `network: allow`: `network: {self.network}` allows what it does"
            )
        return self

    @property
    def controlled(self) -> bool:
        """Whether its containers connect by the list of `egress` alone."""
        return self.driver == "docker" and self.network in (None, "allow")

    @property
    def reach(self) -> tuple[str, ...]:
        """The items of `egress`: what is configured, else the usual."""
        return USUAL if self.egress is None else self.egress

    def limits(self, kind: str) -> ContainerLimits:
        """The limits of a container of this type: what is configured, else the type's."""
        usual = CONTAINER_LIMITS.get(kind, CONTAINER_LIMITS["backend"])
        return ContainerLimits(
            memory=self.memory or usual.memory, cpus=self.cpus or usual.cpus, pids=self.pids or usual.pids
        )


_DOCKER_ONLY = (
    *("image", "memory", "cpus", "pids", "network", "egress", "egress_networks", "recreate", "preset", "packages"),
)


class McpServerSettings(Written):
    """An MCP server of a coding CLI: a program, or an address. Secrets are named: `pass_environment`, `bearer`."""

    command: tuple[Annotated[str, SHORT], ...] = ()
    environment: dict[Variable, str] = Field(default_factory=dict)
    pass_environment: tuple[Variable, ...] = ()
    url: Annotated[str, SHORT] | None = None
    bearer: Variable | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if bool(self.command) == (self.url is not None):
            raise ValueError("say how to reach it: `command:` (a list) or `url:`")
        if self.url is not None and (self.environment or self.pass_environment):
            raise ValueError("a server with a `url:` gets no variables; `bearer:` names the one with its token")
        if self.url is None and self.bearer is not None:
            raise ValueError("`bearer:` is for a server with a `url:`; a program gets `pass_environment:`")
        return self


class McpSettings(Written):
    """The MCP servers of a coding CLI: a JSON file with `mcpServers`, seen from the root, or `servers` by name."""

    file: Annotated[str, SHORT] | None = None
    servers: dict[Name, McpServerSettings] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.file is None) == (not self.servers):
            raise ValueError("name one place of the servers: `file:` or `servers:`")
        return self


class CliSettings(Written):
    """How one coding CLI is run; the key is the name that workstations list under `clis`."""

    adapter: Annotated[str, SHORT] | None = None
    argv: tuple[str, ...] = ()
    model: str | None = None
    arguments: tuple[str, ...] = ()
    environment: dict[str, str] = Field(default_factory=dict)
    pass_environment: tuple[str, ...] = ()
    prompt: Literal["stdin", "file", "argument"] = "stdin"
    success_exit_codes: tuple[int, ...] = (0,)
    mcp: McpSettings | None = None
    options: dict[str, str] = Field(default_factory=dict)

    @property
    def variables(self) -> tuple[str, ...]:
        """What it is passed of the environment, its MCP servers' variables among them."""
        servers = self.mcp.servers.values() if self.mcp is not None else ()
        more = (name for server in servers for name in (*server.pass_environment, server.bearer) if name)
        return tuple(dict.fromkeys((*self.pass_environment, *more)))


class RetrySettings(Written):
    """Waiting time before the next attempt: first × factor^(failures - 1), at most `cap_seconds`.

    `quota`: whether a task waits until its CLI's quota lasts again, or goes on with the next CLI.
    """

    first_seconds: Seconds = 10
    factor: Annotated[float, Field(ge=1, le=10, allow_inf_nan=False)] = 3
    cap_seconds: Seconds = 900
    quota: Literal["wait", "next_cli"] = "wait"


class TimingSettings(Written):
    """Intervals of the supervisor and the daemons, in seconds."""

    assign_timeout_seconds: Seconds = 120
    suspect_after_seconds: Seconds = 30
    restart_after_seconds: Seconds = 120
    hang_after_seconds: Seconds = 900
    overdue_after_seconds: Seconds = 3600
    revive_after_seconds: Annotated[tuple[Seconds, ...], Field(min_length=1, max_length=20)] = (0, 1, 5, 30)
    problem_grace_seconds: Seconds = 600
    salvage_timeout_seconds: Seconds = 300
    report_interval_seconds: Seconds = 1
    deletion_grace_seconds: Seconds = 10


class DiskSettings(Written):
    """Free space of the root's file systems below which no attempt begins, and from which on they do again."""

    stop_below_bytes: Annotated[int, Field(ge=0)] = 1024**3
    stop_below_share: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] = 0.01
    resume_above_bytes: Annotated[int, Field(ge=0)] = 2 * 1024**3
    resume_above_share: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] = 0.02


Days = Annotated[float, Field(ge=0, le=36_500, allow_inf_nan=False)]


class CleanupSettings(Written):
    """When what ended tasks left behind is removed; days since the task ended, as a supervisor saw them pass."""

    enabled: bool = True
    interval_hours: Annotated[float, Field(gt=0, le=168, allow_inf_nan=False)] = 6
    grace_days: Days = 1
    worktree_days: Days = 7
    worktree_count: Annotated[int, Field(ge=0)] = 50
    output_days: Days = 30
    salvage_days: Days = 30
    salvage_share: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.2
    record_days: Days = 365
    clone_days: Days = 30


class MaintenanceSettings(Written):
    """What is done to workstations regularly, one of a type after the other, while they are idle.

    `schedule` is a crontab line in `timezone`; None: only when somebody asks.
    """

    schedule: Annotated[str, SHORT] | None = "30 3 * * sun"
    timezone: Annotated[str, SHORT] = "UTC"
    cache_bytes: Annotated[int, Field(ge=0)] = 2 * 1024**3
    update_tools: bool = False
    snapshot: bool = False
    keep_snapshots: Annotated[int, Field(ge=1, le=100)] = 2


class BudgetSettings(Written):
    """What may be spent in a day (of UTC) or altogether: by everybody, by a project, by a type of workstation.

    `reserve_usd` is what a task without a limit of its own may cost, and reserves.
    """

    usd: Amount
    per: Literal["day", "total"] = "day"
    project: Name | None = None
    workstation: Name | None = None
    reserve_usd: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0


class WebhookListener(Written):
    """Where the supervisor hears webhooks; only if configured. TLS is a reverse proxy's part."""

    host: Annotated[str, SHORT] = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65_535)] = 8787


class Config(Written):
    """The whole of `config.yaml`."""

    version: Literal[1] = 1
    id: Name | None = None
    projects: Annotated[dict[Name, ProjectSettings], Field(min_length=1)]
    workstations: Annotated[dict[Name, WorkstationSettings], Field(min_length=1)] = Field(
        default_factory=lambda: {"backend": WorkstationSettings(clis=("codex",))}
    )
    clis: dict[Name, CliSettings] = Field(default_factory=dict)
    routing: dict[Name, tuple[str, ...]] = Field(default_factory=dict)
    retry: RetrySettings = RetrySettings()
    timing: TimingSettings = TimingSettings()
    disk: DiskSettings = DiskSettings()
    cleanup: CleanupSettings = CleanupSettings()
    maintenance: MaintenanceSettings = MaintenanceSettings()
    prices: dict[Annotated[str, SHORT], Price] = Field(default_factory=dict)
    budgets: dict[Name, BudgetSettings] = Field(default_factory=dict)
    webhooks: WebhookListener | None = None
    secrets: SecretsSettings = SecretsSettings()
    credentials: dict[Word, CredentialSettings] = Field(default_factory=dict)

    @field_validator("credentials", mode="after")
    @classmethod
    def _minted_to_read(cls, value: dict[str, CredentialSettings]) -> dict[str, CredentialSettings]:
        """What a forge makes for agents reads and does nothing else, whatever its access is called."""
        kinds = {"github_token": ("repository",), "gitlab_token": ("repository", "api")}
        for name, settings in value.items():
            for access, rule in settings.access.items():
                if rule.mint is None:
                    continue
                if rule.mint not in kinds.get(name, ()):
                    raise ValueError(
                        f"{name} cannot have `mint: {rule.mint}`: github_token can have `mint: repository`, "
                        "gitlab_token `mint: repository` or `mint: api`"
                    )
                if access != "read":
                    raise ValueError(f"the access '{access}' of {name} has `mint`, which is for the access `read`")
        return value

    @field_validator("credentials", mode="after")
    @classmethod
    def _steering_nothing(cls, value: dict[str, CredentialSettings]) -> dict[str, CredentialSettings]:
        if wrong := next(filter(None, (why_not_variable(name, one) for name, one in value.items())), None):
            raise ValueError(wrong)
        return value

    def types_for(self, project: str) -> tuple[str, ...]:
        """The workstation types that serve a project's trust domain, in the order of the file."""
        domain = self.projects[project].trust_domain
        return tuple(kind for kind, station in self.workstations.items() if station.trust_domain == domain)

    def unstuck_for(self, project: str, kind: str) -> str | None:
        """The CLI that has one try when the chain got nowhere: the project's choice, or the workstations'."""
        found = self.projects.get(project), self.workstations.get(kind)
        return next((settings.unstuck for settings in found if settings and settings.unstuck), None)

    def clis_for(self, project: str, kind: str) -> tuple[str, ...]:
        """The CLIs that a task of this project can be given to on workstations of this type."""
        station, unstuck = self.workstations.get(kind), self.unstuck_for(project, kind)
        chain = station.clis if station is not None else ()
        return tuple(dict.fromkeys((*chain, *([unstuck] if unstuck else []))))

    def clis_of_station(self, kind: str) -> tuple[str, ...]:
        """Every CLI that may run on workstations of this type."""
        domain = self.workstations[kind].trust_domain
        served = [name for name, project in self.projects.items() if project.trust_domain == domain]
        named = (cli for project in served for cli in self.clis_for(project, kind))
        return tuple(dict.fromkeys((*self.workstations[kind].clis, *named)))

    def cli(self, name: str) -> CliSettings:
        """The settings of a CLI; one that is only listed by a workstation has the defaults."""
        return self.clis.get(name, CliSettings())
