"""The version of the package, which whatever it writes carries."""

__version__ = "0.1.0"
