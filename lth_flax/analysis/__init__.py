"""From records to statistics, figures and the report."""

import lth_flax.analysis.matplotlib_import  # noqa: F401  (before any module here imports it)
