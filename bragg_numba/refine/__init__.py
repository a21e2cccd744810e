"""Refinement: the parameters of stills fitted to their data (docs/refine.md)."""
