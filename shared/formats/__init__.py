"""Readers of what harnesses write: `harness` has the words, one module a harness reads it, `standardize` makes results.

Nothing here knows a network or a database, and no more of a file is held than what is being read.
"""
