"""Cloud Code as a service of systemd: telling it how the supervisor does, and installing it."""
