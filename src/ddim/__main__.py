import sys

from ddim.cli.main import main

sys.exit(main())
