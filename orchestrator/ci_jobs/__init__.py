"""Jobs of CI services: one graph, a renderer for each, blocks that people edit around, and a check by meaning."""
