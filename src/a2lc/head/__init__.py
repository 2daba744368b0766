"""The head: a small classifier on learned features of cells, fitted to corrected labels. Needs no torch."""
