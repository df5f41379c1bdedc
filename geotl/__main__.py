"""`python -m geotl` is the `geotl` command."""

import sys

from geotl.cli import main

sys.exit(main())
