"""Which arithmetic renders a plan, float32 or float64, and what its kernels are told: what ``precision`` chooses."""
