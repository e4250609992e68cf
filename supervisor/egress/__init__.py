"""The egress proxy, the one way out of a workstation's container: a process of its own (`python -m` this)."""
