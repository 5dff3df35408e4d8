"""MNIST's test images whose label is known to be wrong."""

MISLABELLED: dict[int, int | None] = {
    947: 9,
    1621: 6,
    1901: 4,
    2130: None,
    2462: 0,
    2597: 3,
    2654: None,
    3520: None,
    3558: 0,
    5937: 3,
    6651: 6,
    6783: 6,
    8527: None,
    9679: None,
    9729: 6,
}
"""Test images, counted from 0, with the digit that most people saw in them; None where they saw neither or disagreed.

C. Northcutt, A. Athalye, J. Mueller, 'Pervasive Label Errors in Test Sets Destabilize Machine Learning Benchmarks'
(NeurIPS 2021 Datasets and Benchmarks): the 15 of 10,000 for which fewer than three of five raters confirmed the label,
from the votes published with the paper (github.com/cleanlab/label-errors, mturk/mnist_mturk.json).
"""
