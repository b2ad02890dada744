"""`python -m training.run JOB_DIR`."""

import sys
from pathlib import Path

from training.run.main import main

if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
