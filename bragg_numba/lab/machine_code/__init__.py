"""What the CUDA kernels compile to, and how fast a card could run it."""
