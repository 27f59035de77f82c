"""A small library: here is a cell, give me files.

It knows nothing of matrix.toml, staging, keys or repositories.
"""
