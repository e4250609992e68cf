"""`python -m agent_daemon` is `agent-daemon`."""

from agent_daemon.cli import main

main()
