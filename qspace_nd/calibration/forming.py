"""Where clusters form. Importing this module costs nothing: the command line does it."""

CLUSTER_SHARE = 0.05
"""The healthy share above which voxels form clusters, unless asked otherwise."""
