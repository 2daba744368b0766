"""Training and prediction: objectives, the model provider, and networks by Lightning (extra `train`)."""
