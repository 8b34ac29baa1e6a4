"""Train fraud models, judge them in money, ship them in steps, and watch them."""

from __future__ import annotations

EXAMPLES = """Examples:

  vedette model train --events history.parquet --train-start 2018-07-25 --train-days 7 --delay-days 7 --out model/

  vedette model report --model model/ --events history.parquet --test-start 2018-08-08 --out report/

  vedette model ship model/ --shadow

  vedette model watch --model model/ --events today.parquet"""
