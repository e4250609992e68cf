# Debian's Chromium instead of a download of Playwright's own.
packages chromium
install_node
npm_programs "jest@$JEST_VERSION" "playwright@$PLAYWRIGHT_VERSION"
programs "pytest==$PYTEST_VERSION" "coverage==$COVERAGE_VERSION" "locust==$LOCUST_VERSION"
