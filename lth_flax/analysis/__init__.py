"""From records to statistics, figures and the report."""
