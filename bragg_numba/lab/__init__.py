"""What the package is examined with: comparisons with the reference, and the machine code of its kernels."""
