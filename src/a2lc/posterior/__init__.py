"""The posterior of `gain`: features of masks, a regression fitted to answers, and its calibration."""
