"""Serve a project's questions to people in a browser (`a2lc serve`). Needs no torch."""
