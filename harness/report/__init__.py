"""The report: collect runs from MLflow into one tidy frame, test, and render tables and figures that trace back.

`collect` alone knows MLflow, `names` and `variants` say what compares with what, `summary` computes, `selection`,
`decisions` and `stability` choose what goes into their tables, `tables`, `captions`, `figures` and `shots` lay out,
`render` and `page` write.
"""
