"""The hardware that numbers were computed on."""

from __future__ import annotations

import os
import platform
from pathlib import Path

_MEMORY_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def hardware() -> str:
    """The hardware in use, such as `CPU, 2 cores (AVX-512, bf16)`; never a host's name."""
    device = accelerator()
    return f"{device}; {cpu(cores())}" if device else cpu(cores())


def cpu(count: int) -> str:
    """So many cores of this machine's processor, such as `CPU, 1 core (AVX-512, bf16)`."""
    extensions = cpu_extensions()
    return f"CPU, {count} core{'s' if count > 1 else ''}" + (f" ({', '.join(extensions)})" if extensions else "")


def cores() -> int:
    """The processor cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows
        return os.cpu_count() or 1


def memory() -> int | None:
    """Bytes of memory that this machine or its control group has in all; None where that cannot be told."""
    limits = []
    for file in _MEMORY_LIMITS:
        try:
            limits.append(int(Path(file).read_text()))
        except (OSError, ValueError):  # no such group, or "max"
            continue
    try:
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):  # Windows
        pass
    return min(limits, default=None)


def gigabytes(size: float) -> str:
    """Bytes in words, such as "1.5 GB"."""
    return f"{size / 1e9:.1f} GB"


def accelerator() -> str:
    """The name of the GPU or TPU in use, "" on a CPU."""
    import keras

    if keras.backend.backend() == "jax":
        import jax

        device = jax.devices()[0]
        return "" if device.platform == "cpu" else str(device.device_kind)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
        return str(tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU")) if gpus else ""
    return ""


def cpu_extensions() -> list[str]:
    """The extensions of this machine's processor that decide how fast networks run, or its architecture."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return [platform.machine()] if platform.machine() else []
    known = {"avx512f": "AVX-512", "avx512_bf16": "bf16", "amx_bf16": "AMX"}
    return [name for flag, name in known.items() if flag in flags]
