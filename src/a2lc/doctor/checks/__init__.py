"""Checks of the doctor, one module per subject: each turns evidence into findings."""
