"""Finding pictures by a picture: an index of features in one file, on ONNX Runtime alone."""

from mizoo.search.duplicates import SIMILAR, near_duplicates
from mizoo.search.index import EXACT, Hit, PictureIndex, build, read
from mizoo.search.sheet import draw

__all__ = ["EXACT", "SIMILAR", "Hit", "PictureIndex", "build", "draw", "near_duplicates", "read"]
