"""What the server offers, and what is downloaded of it."""


def offer(numerai, rows, *, version="v5.3", live=0):
    """Offer the files of a version of the data; `live` numbers the live era."""
    features = [name for name in rows if name.startswith("feature")]
    targets = [name for name in rows if name.startswith("target")]
    eras = sorted(rows["era"].unique())
    train = rows[rows["era"].isin(eras[:30])]
    validation = rows[rows["era"].isin(eras[30:38])]
    now = rows[rows["era"] == eras[38]].assign(era="X")
    now.index = [f"live{live}_{i}" for i in range(len(now))]
    now.index.name = "id"
    now[targets] = float("nan")
    metadata = {"feature_sets": {"small": features[:4], "all": features}}
    numerai.add(f"{version}/features.json", {**metadata, "targets": targets})
    for name, part in {"train": train, "validation": validation, "live": now}.items():
        numerai.add(f"{version}/{name}.parquet", part)
        benchmark = part[["era"]].assign(
            v53_lgbm_ender60=part[features[:3]].mean(axis=1).rank(pct=True)
        )
        numerai.add(f"{version}/{name}_benchmark_models.parquet", benchmark)
    meta = validation[["era"]].assign(
        data_type="validation", numerai_meta_model=validation[features[3]] / 5
    )
    numerai.add(f"{version}/meta_model.parquet", meta)


def offered(numerai, version="v5.3"):
    """Return what the server offers of a version, by name."""
    return {
        name.partition("/")[2]: file.content
        for name, file in numerai.files.items()
        if name.startswith(version)
    }


def contents(folder):
    """Return what was downloaded into a folder: all that is in it but the record."""
    found = {path.name: path for path in folder.iterdir()}
    found.pop("downloads.sealed")
    return {name: path.read_bytes() for name, path in found.items()}
