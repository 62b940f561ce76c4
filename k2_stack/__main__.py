"""``python -m k2_stack`` is the ``k2`` command."""

from k2_stack.cli import main

if __name__ == "__main__":
    main()
