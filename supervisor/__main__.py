"""`python -m supervisor` is `cloud-code`."""

from supervisor.cli.main import main

main()
