"""Rendered RGB-T scenes with exact boxes: assets, motion, scenes, cameras, and a writer (docs/simulation.md)."""
