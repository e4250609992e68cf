"""`python -m agent_daemon` is `agent-daemon`."""

import gc


def start() -> None:
    """Of what a start makes almost nothing is garbage, and a fifth of its time went into looking for some."""
    gc.set_threshold(50_000)
    from agent_daemon.cli import main

    main()


start()
