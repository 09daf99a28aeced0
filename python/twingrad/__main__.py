"""`python -m twingrad`."""

from .cli import main

main()
