"""`python -m rope_deploy` is `rope-deploy`."""

import os
import sys

# `-m` puts the working directory first on the path: a numpy.py that lies there would be imported for numpy.
if not sys.flags.safe_path and sys.path[:1] == [os.getcwd()]:
    del sys.path[0]

from rope_deploy.cli.main import main

sys.exit(main())
