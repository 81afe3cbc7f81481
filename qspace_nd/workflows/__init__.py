"""From files to files: what the commands call."""
