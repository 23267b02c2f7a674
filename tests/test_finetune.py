"""Training with labels: frozen, with batch normalisation held, and from scratch."""

from __future__ import annotations
