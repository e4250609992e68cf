"""Where secrets are kept and read from."""
