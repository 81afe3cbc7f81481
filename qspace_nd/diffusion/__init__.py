"""Arithmetic of q-space: gradient tables, harmonics, invariants; no files of images."""
