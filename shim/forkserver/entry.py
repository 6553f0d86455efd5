"""The file that the server's interpreter is started with: as `shim/entry.py`, it finds the libraries first."""

import gc
import os
import sys

if __name__ == "__main__":
    gc.disable()
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    from shim.paths import add_import_roots

    add_import_roots()
    from shim.frugal import leave_out_ssl

    leave_out_ssl()
    from shim.forkserver.main import main

    main(int(sys.argv[1]), sys.argv[2])
