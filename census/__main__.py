"""`python -m census` is the `census` command."""

from census.cli import main

if __name__ == "__main__":
    main()
