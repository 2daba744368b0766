"""Create projects: import data sets, check and prepare files, create masks and pseudo labels."""
