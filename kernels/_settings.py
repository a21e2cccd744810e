"""What a user may say about kernels before the first is compiled: environment variables of this package."""

#: How long vectors may be, in bits.
VECTOR_BITS, LENGTHS = "BRAGG_NUMBA_VECTOR_BITS", ("256", "512")
