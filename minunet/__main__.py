"""`python -m minunet` is the command `minunet`."""

import sys

from .cli import main

sys.exit(main())
