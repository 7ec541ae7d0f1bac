"""Networks: layers, losses, noise, batches and the one training loop, in pure torch.

This package does not depend on frames, era labels or scikit-learn.
"""
