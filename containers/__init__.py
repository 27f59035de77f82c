"""Toolchain images as data: a Dockerfile for each, the scripts they need, and pins.toml.

Nothing here is imported for its code. Being a package lets the wheel carry the folder, found by
`importlib.resources.files("containers")`. `bootstrap` makes the root file systems of the base image,
`fetch-wheels` the named build context of the images that take a toolchain from the package index.
"""
