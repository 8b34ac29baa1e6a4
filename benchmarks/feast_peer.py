"""Feast's online fetch of sixty values, for `decide.py`; run by the peers' Python, not by ours.

python benchmarks/feast_peer.py FOLDER sqlite|redis COUNT [HOST:PORT]
"""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
from feast import Entity, FeatureStore, FeatureView, Field, FileSource
from feast.repo_config import RepoConfig
from feast.types import Float64

ROWS, WARM = 2_000, 20


def main(folder: Path, kind: str, count: int, redis: str) -> list[float]:
    """Microseconds of each fetch."""
    stores = {
        "redis": {"type": "redis", "connection_string": redis},
        "sqlite": {"type": "sqlite", "path": str(folder / "online.db")},
    }
    config = RepoConfig(
        project="p",
        registry=str(folder / "registry.db"),
        provider="local",
        online_store=stores[kind],
        entity_key_serialization_version=3,
    )
    store = FeatureStore(config=config)
    now, views = datetime.now(UTC), []
    for name in ("customer", "terminal"):
        names = [f"{name}_{number}" for number in range(30)]
        path = str(folder / f"{name}.parquet")
        pd.DataFrame({name: range(ROWS), "at": now - timedelta(hours=1), **dict.fromkeys(names, 1.5)}).to_parquet(path)
        entity = Entity(name=name, join_keys=[name])
        source = FileSource(path=path, timestamp_field="at")
        schema = [Field(name=each, dtype=Float64) for each in names]
        view = FeatureView(name=name, entities=[entity], ttl=timedelta(days=1), source=source, schema=schema)
        store.apply([entity, view])
        views += [f"{name}:{each}" for each in names]
    store.materialize(now - timedelta(hours=2), now)
    took = []
    for number in range(count + WARM):
        row = {"customer": number % ROWS, "terminal": 7 * number % ROWS}
        at = time.perf_counter_ns()
        store.get_online_features(features=views, entity_rows=[row]).to_dict()
        took.append((time.perf_counter_ns() - at) / 1e3)
    return took[WARM:]


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), (sys.argv[4:] or [""])[0])))
