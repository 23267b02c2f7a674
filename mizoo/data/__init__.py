"""Pictures by name, from a folder, from packed chunks or from arrays; sounds; sequences from arrays."""

from mizoo._tools.lazy import submodules
from mizoo.data import packed, pictures, sound_files, sounds
from mizoo.data.dataset import Dataset
from mizoo.data.loading import batches, load, splits

__all__ = ["Dataset", "batches", "load", "packed", "pictures", "sound_files", "sounds", "splits"]

__getattr__ = submodules(__name__)
