"""All that talks to Numerai's server, and nothing else does."""

from numerai_features.tournament._download import DownloadedFile, download
from numerai_features.tournament._errors import NoOpenRound, ServerError

__all__ = ["DownloadedFile", "NoOpenRound", "ServerError", "download"]
