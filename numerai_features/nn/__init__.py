"""Networks: layers, losses, noise, batches and the one training loop, in pure torch.

Knows nothing of frames, eras as labels, or scikit-learn.
"""
