"""`python -m tightframe`."""

from tightframe.cli.main import main

if __name__ == "__main__":
    main()
