"""Windows of feature rows never reach into another series."""

import numpy as np

from surveillance_pipelines.features.windows import windows_of


def test_windows_end_with_their_rows_and_stop_at_the_beginning_of_their_series():
    values = np.arange(12.0).reshape(6, 2)  # two series of three rows
    windows = windows_of(values, np.array([0, 2, 3, 5]), np.array([0, 0, 3, 3]), 2)
    np.testing.assert_array_equal(windows[0], [[np.nan, np.nan], values[0]])
    np.testing.assert_array_equal(windows[1], values[1:3])
    np.testing.assert_array_equal(windows[2], [[np.nan, np.nan], values[3]])
    np.testing.assert_array_equal(windows[3], values[4:6])


def test_windows_of_one_row_are_the_rows():
    values = np.arange(6.0).reshape(3, 2)
    windows = windows_of(values, np.arange(3), np.zeros(3, dtype=int), 1)
    np.testing.assert_array_equal(windows[:, 0], values)
