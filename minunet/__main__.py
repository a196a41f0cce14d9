"""`python -m minunet` is the command `minunet`."""

from .cli import program

program()
