"""Images, labels and masks: files in."""
