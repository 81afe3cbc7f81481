"""Exact search for the nearest points, and its approximate stand-in."""
