"""Kernels that sum a pixel's value and what its slopes are made of; loaded when slopes are asked for."""
