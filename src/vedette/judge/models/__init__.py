"""Models: trained with LightGBM, calibrated, kept as flat arrays with a card, and served without LightGBM.

`training` makes a model directory from history, `model` loads it by hash and scores, `protocol` says which rows may be
trained and tested on and how a model is judged.

Example:
    >>> from vedette.judge.models.calibration import Calibration
    >>> Calibration().score(0.0)
    0.5
"""
