"""What a detector makes of the expected photons: counts and noise."""
