"""`a2lc serve`: people answer a project's questions in a browser. Needs no torch."""
