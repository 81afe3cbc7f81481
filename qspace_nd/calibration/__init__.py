"""What a value of a novelty map means: how often healthy people show as much."""
