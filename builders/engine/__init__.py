"""The builders that need a container engine, and the toolchain images that they run in.

docker_sdk.py is the one home of the docker SDK, buildx.py that of python-on-whales.
"""
