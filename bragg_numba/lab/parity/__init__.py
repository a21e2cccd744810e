"""Comparisons with the C program: images, traces, whole matrices of command lines, and their evidence."""
