"""Files, progress and concurrency: the outside world as the other packages see it."""
