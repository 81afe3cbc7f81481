"""The machine: memory, threads, devices, whole-or-absent writing, scratch files, compiling."""
