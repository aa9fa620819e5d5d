"""nbclient's client, which also notices a cell that prints without end."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

LIMIT = 1_000_000  # characters of output that one cell may make
WEIGHT = 100  # of one output, whatever it holds
QUIET = logging.getLogger("bookbuild.kernel")
QUIET.addHandler(logging.NullHandler())
QUIET.propagate = False


class Client(NotebookClient):
    """Sets `flooded` when a cell's outputs pass the limit; keeps the last reply."""

    def __init__(self, nb: Any, km: AsyncKernelManager) -> None:
        super().__init__(
            nb, km=km, timeout=None, iopub_timeout=60, raise_on_iopub_timeout=True
        )
        self.log = QUIET
        self.printed = 0
        self.flooded = asyncio.Event()
        self.reply: dict[str, Any] = {}
        self.on_cell_executed = self._executed

    def _executed(self, execute_reply: dict[str, Any], **_: Any) -> None:
        self.reply = execute_reply["content"]

    def process_message(self, msg: dict[str, Any], cell: Any, cell_index: int) -> Any:
        kind = msg["msg_type"]
        if kind == "clear_output":
            self.printed = 0
        elif kind in ("stream", "display_data", "execute_result"):
            self.printed += WEIGHT + _size(msg["content"])
        if self.printed > LIMIT:
            self.flooded.set()
            if kind != "status":
                return None
        return super().process_message(msg, cell, cell_index)


def _size(content: Mapping[str, Any]) -> int:
    if "text" in content:
        return len(content["text"])
    return sum(len(str(value)) for value in content["data"].values())
