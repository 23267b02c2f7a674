"""The workers of a run on several hosts, as a command line or TF_CONFIG names them."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass

from mizoo.errors import UserError

_FORM = "host:port of each worker with commas between, such as 10.0.0.1:2222,10.0.0.2:2222"


@dataclass(frozen=True)
class Workers:
    """The addresses of all workers, `host:port`, the chief's first, and the index of this process among them."""

    addresses: tuple[str, ...]
    index: int

    def name(self, index: int) -> str:
        """What messages call a worker."""
        return f"worker {index} ({self.addresses[index]})"

    def address(self, index: int) -> tuple[str, int]:
        """Host and port of a worker."""
        host, _, port = self.addresses[index].rpartition(":")
        return host.strip("[]"), int(port)


def named_workers(workers: str | Sequence[str] | None, index: int | None) -> Workers | None:
    """The workers that arguments name, or else the environment variable TF_CONFIG.

    Args:
        workers: host:port of each, in a list or with commas between; None for those of TF_CONFIG.
        index: of this process among them, from 0.

    Returns:
        None where there are fewer than two.

    Raises:
        UserError: for addresses without a port or named twice, an index that is none of them, one of the two arguments
            without the other, and a TF_CONFIG that is not read.
    """
    if workers is None and index is None:
        return _of_tf_config(os.environ.get("TF_CONFIG") or "{}")
    if workers is None or index is None:
        raise UserError("`--workers` and `--index` belong together: the list is the same on every host, the index not.")
    addresses = workers.split(",") if isinstance(workers, str) else list(workers)
    return _checked([each.strip() for each in addresses], index, "--workers")


def _of_tf_config(text: str) -> Workers | None:
    try:
        content = json.loads(text)
        cluster, task = content.get("cluster") or {}, content.get("task") or {}
        chief, others = list(cluster.get("chief", [])), list(cluster.get("worker", []))
        kind, index = task.get("type", "worker"), int(task.get("index", 0))
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"TF_CONFIG is JSON with `cluster` and `task`. Received: {text!r} ({error})") from None
    if len(chief) + len(others) < 2:
        return None
    if kind not in ("chief", "worker"):
        raise UserError(f"TF_CONFIG: `task.type` is chief or worker here. Received: {kind!r}")
    return _checked([*chief, *others], index + (len(chief) if kind == "worker" else 0), "TF_CONFIG")


def _checked(addresses: list[str], index: int, source: str) -> Workers | None:
    for each in addresses:
        host, _, port = str(each).rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 65536:
            raise UserError(f"`{source}` holds {_FORM}. Received: {each!r}")
    if len(set(addresses)) < len(addresses):
        raise UserError(f"`{source}` names a worker twice: {', '.join(addresses)}. Each has an address of its own.")
    if not 0 <= index < len(addresses):
        raise UserError(f"There are {len(addresses)} workers, of index 0 to {len(addresses) - 1}. Received: {index}")
    return Workers(tuple(addresses), index) if len(addresses) > 1 else None
