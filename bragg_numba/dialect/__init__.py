"""nanoBragg's command line as a dialect: words in, plain values for the nouns of an experiment out."""

from bragg_numba.dialect.command_line import CommandLine, Request
from bragg_numba.dialect.parse import parse

__all__ = ["CommandLine", "Request", "parse"]
