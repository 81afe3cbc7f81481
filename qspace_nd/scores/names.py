"""The names of the scores that others single out; importing them costs nothing."""

DEFAULT_SCORE = "latent-distance"
BASELINE_SCORE = "input-distance"
"""Needs no network: what every other score is compared with."""
