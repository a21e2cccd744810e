"""Reflection by reflection: where spots fall and how many photons each holds."""
