"""Run the console command as ``python -m numerai_features``."""

from numerai_features.cli import program

if __name__ == "__main__":
    program()
