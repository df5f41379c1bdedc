"""`python -m geotl` is the `geotl` command."""

import sys

from geotl.cli.main import main

sys.exit(main())
