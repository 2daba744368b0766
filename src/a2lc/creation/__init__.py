"""Create projects: import data sets, check and prepare files, make masks and pseudo labels."""
