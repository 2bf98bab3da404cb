"""The report: collect runs from MLflow into one tidy frame, test, and render tables and figures that trace back.

`collect` alone knows MLflow, `summary` computes, `tables` and `figures` lay out, `render` and `page` write.
"""
