"""MNIST's test images whose label is wrong, where that is plain to see."""

MISLABELLED: dict[int, int] = {947: 9, 1901: 4, 5937: 3, 9729: 6}
"""Test images, counted from 0, with the digit that they show.

C. Northcutt, A. Athalye, J. Mueller, 'Pervasive Label Errors in Test Sets Destabilize Machine Learning Benchmarks'
(NeurIPS 2021 Datasets and Benchmarks), count 15 wrong labels among the 10,000. This is not a copy of their list: it
holds those that a trained network contradicts and that, looked at one by one and enlarged, show another digit than
their label without doubt. Those that could be either are left out, so that a mark is never a guess.
"""
COUNTED = 15
"""Wrong labels in MNIST's test set by that paper."""
