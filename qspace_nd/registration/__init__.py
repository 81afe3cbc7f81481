"""Where a scan's voxels lie in a space that heads have in common."""
