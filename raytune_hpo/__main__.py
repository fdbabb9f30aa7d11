"""python -m raytune_hpo"""

from __future__ import annotations

import sys

from raytune_hpo.cli.main import main

sys.exit(main())
