"""Images and label maps: open, decode, and write single files."""
