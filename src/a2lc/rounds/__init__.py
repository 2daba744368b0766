"""Rounds: score, select, answer, correct, train and evaluate, each stage recorded when it ends."""
