"""From matrix.toml to a release."""

__version__ = "0.1.0"
