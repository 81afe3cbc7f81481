"""The novelty scores: what they are called and how they are computed."""
