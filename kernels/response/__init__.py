"""What a detector makes of photons: counts that are lost, charge that is digitised, light that is scattered far."""
