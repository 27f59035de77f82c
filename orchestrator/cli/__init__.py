"""The command line: parse, wire, call, render, exit. The only place that prints and exits."""

from orchestrator.cli.main import main

__all__ = ["main"]
