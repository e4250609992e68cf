"""The agent daemon: runs in a workstation, drives a coding CLI, speaks to the supervisor through files."""

__version__ = "0.1.0"
