"""The machine: memory, threads and devices, whole-or-absent writing, scratch files, compiling."""
