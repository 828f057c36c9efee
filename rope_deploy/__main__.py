"""`python -m rope_deploy` is `rope-deploy`."""

import sys

from rope_deploy.cli.main import main

sys.exit(main())
