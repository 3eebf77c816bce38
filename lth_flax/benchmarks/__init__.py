"""What is measured against other software, one module per question."""
