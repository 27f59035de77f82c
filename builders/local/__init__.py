"""The builder that needs no engine: compilers of PyPI or of this machine, in a sandbox."""
