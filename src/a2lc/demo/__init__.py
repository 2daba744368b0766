"""Made-up street scenes with planted label errors."""
