"""Files, progress reports and concurrency, as used by the other packages."""
