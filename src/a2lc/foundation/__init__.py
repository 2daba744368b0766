"""Foundation models: detect and segment objects from class names (extra `foundation`)."""
