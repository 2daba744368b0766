"""Methods side by side: the same data, clicks and seeds, from a protocol file to tables and curves."""
