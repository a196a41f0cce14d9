"""`python -m minunet` is the command `minunet`."""

from .program import program

program()
