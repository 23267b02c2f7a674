"""Pictures by name, from a folder, from packed shards or from arrays; sounds; sequences from arrays."""

from mizoo._tools.lazy import submodules
from mizoo.data import packed, pictures, sound_files, sounds
from mizoo.data.dataset import Dataset
from mizoo.data.loading import batches, load, splits, stream
from mizoo.data.packing_sources import pack

__all__ = ["Dataset", "batches", "load", "pack", "packed", "pictures", "sound_files", "sounds", "splits", "stream"]

__getattr__ = submodules(__name__)
