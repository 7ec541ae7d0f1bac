"""``python -m numerai_features`` is the console command."""

from numerai_features.cli import program

if __name__ == "__main__":
    program()
