"""The recurrent core and the classifier around it."""
