"""Classes: the table of names and colours, edits made to it, and the decoding of label values."""
