"""Stand-ins for GitHub and GitLab: real HTTP servers on loopback with the state of a small forge."""
