"""The file that the daemon's interpreter is started with: it finds the libraries, then becomes the daemon.

Python does not cache the bytecode of the file it is started with, so there is next to nothing here.
"""

import gc
import os
import sys

if __name__ == "__main__":
    # Thousands of objects are made while importing and none becomes garbage: collecting would only cost time.
    gc.disable()
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    from shim.paths import add_import_roots

    add_import_roots()
    from shim.frugal import leave_out_ssl

    leave_out_ssl()
    from shim.daemon import main

    main(sys.argv[1:])
