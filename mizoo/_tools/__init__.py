"""Tools that know nothing of encoders: files, hardware, progress, text. Not public."""
