"""The demo: the whole way from a task file to a pushed branch, with the real programs, in a folder of its own."""
