"""Stands before the real package on PYTHONPATH, so that `python -m agent_daemon` is the hostile daemon."""
