"""`python -m qspace_nd`: the command line, where its script is not on the path."""

from qspace_nd.cli import main

if __name__ == "__main__":
    main()
