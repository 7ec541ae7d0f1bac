"""All that talks to Numerai's server, and nothing else does.

Importing this package imports nothing heavy, and no client: that happens in calls.
"""

from numerai_features.tournament._download import DownloadedFile, download
from numerai_features.tournament._errors import NoOpenRound, ServerError
from numerai_features.tournament._log import Submission
from numerai_features.tournament._scores import scores
from numerai_features.tournament._submit import submit_predictions
from numerai_features.tournament._upload import ModelUpload, submit_model
from numerai_features.tournament._weekly import weekly

__all__ = [
    "DownloadedFile",
    "ModelUpload",
    "NoOpenRound",
    "ServerError",
    "Submission",
    "download",
    "scores",
    "submit_model",
    "submit_predictions",
    "weekly",
]
