"""Experiments: compare methods on the same data, clicks and seeds, from a protocol file to tables and curves."""
