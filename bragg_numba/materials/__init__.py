"""What things are made of, and how far X-rays come in them."""

from bragg_numba.materials.attenuation import Material, attenuation_per_m, find_material

__all__ = ["Material", "attenuation_per_m", "find_material"]
