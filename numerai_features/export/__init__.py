"""From a fitted pipeline to one file that needs numpy and pandas."""
