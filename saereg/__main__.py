"""`python -m saereg`."""

from saereg.cli import main

if __name__ == "__main__":
    main()
