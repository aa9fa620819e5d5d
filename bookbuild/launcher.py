"""The program of a chapter's kernel: ipykernel's own, which loses no output.

ZeroMQ drops what a slow reader has not taken when a thousand messages wait, and tells
nobody. Here they wait in the kernel's memory, however many they are.
"""

import sys
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # `-m` puts the folder of the work first; IPython does so itself, later.
    if sys.path[0] == "" or Path(sys.path[0]) == Path.cwd():
        del sys.path[0]

    from ipykernel.kernelapp import IPKernelApp

    class KernelApp(IPKernelApp):
        def init_iopub(self, context: Any) -> None:
            context.sndhwm = 0  # for the sockets to come: no limit
            super().init_iopub(context)  # type: ignore[no-untyped-call]

    KernelApp.launch_instance()
