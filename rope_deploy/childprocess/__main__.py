"""The child: `python -P -m rope_deploy.childprocess PARENT`, started by `child.py`; PARENT is its process id."""

import sys

from rope_deploy.childprocess.serve import main

main(int(sys.argv[1]))
