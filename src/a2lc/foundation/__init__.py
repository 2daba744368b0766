"""Foundation models: first labels and masks from images and class names (extra `foundation`)."""
