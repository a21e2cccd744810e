"""One pixel explained: every quantity on the way to its photons."""
