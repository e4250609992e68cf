"""GitHub, in the cloud or self-hosted: issues, pull requests, and the git address of a repository."""
