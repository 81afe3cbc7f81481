"""What files are called and which belong together; no voxels."""
