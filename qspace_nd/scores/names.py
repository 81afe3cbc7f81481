"""The names of the scores that others single out; importing them costs nothing."""

DEFAULT_SCORE = "latent-distance"
DIRECTED_SCORE = "latent-placed-directed-distance"
"""The one that knows the place and is told the change."""
BASELINE_SCORE = "input-distance"
"""Needs no network: what every other score is compared with."""

NOTHING = "nothing"
"""What a score knows beside the signals of healthy people: in most, this."""
