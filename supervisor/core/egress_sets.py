"""The named sets of `egress` in config.yaml, as data: which hosts a registry, a forge or a model's provider needs.

Only hosts that serve many people's packages or one provider's API, each by its exact name: on a host where
anybody can have a name of his own (`*.github.io`, storage buckets) a permission for one would be one for all.
"""

from typing import Final

SETS: Final[dict[str, tuple[str, ...]]] = {
    # registries of packages
    "pypi": ("pypi.org:443", "files.pythonhosted.org:443"),
    "npm": ("registry.npmjs.org:443", "registry.yarnpkg.com:443"),
    "debian": (
        *("deb.debian.org:80", "deb.debian.org:443"),
        *("security.debian.org:80", "security.debian.org:443"),
    ),
    "ubuntu": (
        *("archive.ubuntu.com:80", "archive.ubuntu.com:443"),
        *("security.ubuntu.com:80", "security.ubuntu.com:443"),
        *("ports.ubuntu.com:80", "ports.ubuntu.com:443"),
    ),
    "crates": ("crates.io:443", "index.crates.io:443", "static.crates.io:443"),
    "go": ("proxy.golang.org:443", "sum.golang.org:443"),
    "maven": ("repo.maven.apache.org:443", "repo1.maven.org:443"),
    "rubygems": ("rubygems.org:443", "index.rubygems.org:443"),
    # images of containers (Docker's list of hosts to allow); one of them is a bucket that only Docker fills
    "docker": (
        *("registry-1.docker.io:443", "auth.docker.io:443"),
        *("production.cloudflare.docker.com:443", "production.cloudfront.docker.com:443"),
        "docker-images-prod.6aa30f8b08e16409b46e0173d6de2f56.r2.cloudflarestorage.com:443",
    ),
    # what installs further parts of Node and of Playwright
    "node": ("nodejs.org:443",),
    "playwright": ("cdn.playwright.dev:443", "playwright.download.prss.microsoft.com:443"),
    # forges, for reading
    "github": (
        *("github.com:443", "api.github.com:443", "codeload.github.com:443"),
        *("objects.githubusercontent.com:443", "raw.githubusercontent.com:443"),
        "release-assets.githubusercontent.com:443",
    ),
    "gitlab": ("gitlab.com:443",),
    # providers of models
    "anthropic": ("api.anthropic.com:443",),
    "openai": ("api.openai.com:443",),
    "google": ("generativelanguage.googleapis.com:443", "aiplatform.googleapis.com:443"),
    # what their coding CLIs need beside that where they go by a login instead of a key
    "anthropic-login": ("console.anthropic.com:443", "platform.claude.com:443", "claude.ai:443"),
    "openai-login": ("auth.openai.com:443", "chatgpt.com:443"),
    "google-login": ("accounts.google.com:443", "oauth2.googleapis.com:443", "cloudcode-pa.googleapis.com:443"),
    # further providers
    "openrouter": ("openrouter.ai:443",),
    "mistral": ("api.mistral.ai:443",),
    "deepseek": ("api.deepseek.com:443",),
    "copilot": ("api.github.com:443", "*.githubcopilot.com:443"),
    "augment": ("*.api.augmentcode.com:443",),
    "opencode": ("opencode.ai:443", "models.dev:443"),
    "qwen": ("dashscope.aliyuncs.com:443", "dashscope-intl.aliyuncs.com:443"),
}

# What a workstation's coding CLIs need, whatever they are: see `core.reach`.
CLIS: Final = "clis"

# Where nothing else is configured: the model, and what builds and tests of most projects download.
USUAL: Final = (CLIS, "pypi", "npm")

# The provider that a coding CLI (by its adapter) talks to of itself.
OF_ADAPTER: Final[dict[str, tuple[str, ...]]] = {
    "auggie": ("augment",),
    "claude-agent-acp": ("anthropic",),
    "claude-code": ("anthropic",),
    "codex": ("openai",),
    "codex-acp": ("openai",),
    "copilot": ("copilot",),
    "gemini": ("google",),
    "opencode": ("opencode",),
    "qwen": (),
}

# The provider whose key a variable holds: aider, opencode and programs of one's own go by the keys they are given.
OF_KEY: Final[dict[str, str]] = {
    "ANTHROPIC_API_KEY": "anthropic",
    "CLAUDE_CODE_OAUTH_TOKEN": "anthropic",
    "CODEX_API_KEY": "openai",
    "DASHSCOPE_API_KEY": "qwen",
    "DEEPSEEK_API_KEY": "deepseek",
    "GEMINI_API_KEY": "google",
    "GOOGLE_API_KEY": "google",
    "MISTRAL_API_KEY": "mistral",
    "OPENAI_API_KEY": "openai",
    "OPENROUTER_API_KEY": "openrouter",
}
