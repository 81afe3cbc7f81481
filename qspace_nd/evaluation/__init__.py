"""Novelty maps against lesion labels: figures and tables."""
