"""Do factor-analysis latents help a tree? Originals, + latents, + random columns.

    python benchmarks/latents.py [--data FOLDER] [--seed N] [--output FOLDER]

Runs the comparison of ``numerai-features run`` on the demo's panel, on the same panel
without latent structure, and, where --data names a folder with Numerai's train and
validation files, on those. Reported whatever the signs.
"""

import argparse
import tomllib
from importlib.resources import files
from pathlib import Path

from numerai_features.cli import main as numerai_features

REAL = """
[data]
files = ["{data}/train.parquet", "{data}/validation.parquet"]
[targets]
main = "{target}"
[cv]
n_splits = 5
purge = 0  # these eras are months: no target overlaps the next
[latents.fa]
embedder = "FactorAnalysisEmbedder"
n_components = 10
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--target", default="target_bernie")
    parser.add_argument("--seed", type=int, default=0, help="of the demo's panel")
    parser.add_argument("--output", type=Path, default=Path("runs/benchmark"))
    args = parser.parse_args()
    demo = files("numerai_features.experiment").joinpath("demo.toml").read_text()
    demo = demo.replace("seed = 0", f"seed = {args.seed}")
    assert tomllib.loads(demo)["seed"] == args.seed
    assert tomllib.loads(demo)["data"]["synthetic"]["structure"] == "linear"
    experiments = {
        "linear": demo,
        "none": demo.replace('structure = "linear"', 'structure = "none"'),
    }
    if args.data is not None:
        experiments["real"] = REAL.format(data=args.data.resolve(), target=args.target)
    args.output.mkdir(parents=True, exist_ok=True)
    for name, text in experiments.items():
        path = args.output / f"{name}.toml"
        path.write_text(text)
        print(f"\n== {name}", flush=True)
        numerai_features(["run", str(path), "--output", str(args.output / name)])


if __name__ == "__main__":
    main()
