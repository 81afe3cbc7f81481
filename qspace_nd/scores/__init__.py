"""Novelty scores: views of a voxel, measures between them, families that combine them."""
