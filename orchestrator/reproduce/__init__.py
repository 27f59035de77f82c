"""Rebuilds a release from its own source and compares it bit for bit."""
