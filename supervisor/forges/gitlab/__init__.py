"""GitLab, in the cloud or self-hosted: issues, merge requests, and the git address of a project."""
