"""Slopes of the image in the parameters of an experiment (docs/slopes.md)."""
