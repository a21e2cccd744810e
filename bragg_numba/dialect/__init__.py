"""nanoBragg's command line as a dialect: words in, an Experiment out."""

from bragg_numba.dialect.resolve import Request, experiment_from_words, resolve

__all__ = ["Request", "experiment_from_words", "resolve"]
