"""Random numbers: the counter-based stream of counts, and the classic generator of nanoBragg."""
