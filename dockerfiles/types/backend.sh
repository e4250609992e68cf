packages postgresql-client redis-tools
programs "poetry==$POETRY_VERSION" "pipx==$PIPX_VERSION" "ruff==$RUFF_VERSION" "mypy==$MYPY_VERSION" "pytest==$PYTEST_VERSION"
