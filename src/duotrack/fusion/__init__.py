"""Fusing a visible and a thermal image into one picture: experts, with and without weights (docs/specs/tpf.md, 7)."""
