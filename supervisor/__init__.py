"""The supervisor: turns issues and task files into tasks, and finished work into pushed branches."""

__version__ = "0.1.0"
