install_node
npm_programs "eslint@$ESLINT_VERSION"
programs "ruff==$RUFF_VERSION" "mypy==$MYPY_VERSION" "bandit==$BANDIT_VERSION" "semgrep==$SEMGREP_VERSION" \
    "detect-secrets==$DETECT_SECRETS_VERSION"
