"""The slow work: what a pool thread does for the loop. Each function returns an outcome; none writes a record."""
