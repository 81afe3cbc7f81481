"""Simulated heads, lesions and cohorts."""
