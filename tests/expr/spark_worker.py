"""Runs queries on a Spark of this machine: data, texts, settings and parts on stdin, each text's answer on stdout.

An answer is a mapping of a row's number to the names in `fired`, None where the row is open.
"""

from __future__ import annotations

import json
import sys

from pyspark.sql import SparkSession

SETTINGS = {
    "spark.ui.enabled": "false",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.sql.shuffle.partitions": "1",
    "spark.sql.codegen.wholeStage": "false",  # compiling so many wide queries takes longer than running them
    "spark.log.level": "OFF",
}


def main() -> None:
    asked = json.load(sys.stdin)
    builder = SparkSession.builder.master("local[1]")
    for name, value in SETTINGS.items():
        builder = builder.config(name, value)
    spark = builder.getOrCreate()
    for name, value in asked.get("settings", {}).items():
        spark.conf.set(name, value)
    rows = list(enumerate(asked["data"]))
    answers = []
    for text, (start, end) in zip(asked["texts"], asked["parts"] or [(0, None)] * len(asked["texts"]), strict=True):
        spark.createDataFrame(rows[start:end], "id int, data string").coalesce(1).createOrReplaceTempView("events")
        answers.append({row["id"]: row["fired"] for row in spark.sql(text).collect()})
    print(json.dumps(answers))
    spark.stop()


if __name__ == "__main__":
    main()
