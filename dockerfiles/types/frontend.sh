install_node
npm_programs "yarn@$YARN_VERSION" "pnpm@$PNPM_VERSION" "bun@$BUN_VERSION" "typescript@$TYPESCRIPT_VERSION" \
    "eslint@$ESLINT_VERSION" "prettier@$PRETTIER_VERSION" "playwright@$PLAYWRIGHT_VERSION"
