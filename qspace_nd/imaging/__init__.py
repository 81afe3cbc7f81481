"""From NIfTI files to normalised voxels and back."""
