"""From records to statistics, figures and the report."""

import lth_flax.analysis.matplotlib_import  # noqa: F401  (before any module here imports it)
import lth_flax.jax_import  # noqa: F401
